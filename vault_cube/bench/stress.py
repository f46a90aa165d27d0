"""`gpu.stress`: burn in every device, write samples to disk, continue after reboots, and judge at the end.

A burn-in is a folder `stress-<start>/` in the results folder: `plan.json` (the request and its progress),
`samples.jsonl` (one line per sample, synced at least every `sync_s` seconds), and at the end `verdict.json`. An
unfinished burn-in continues where its samples end.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vault_cube.bench.burn import GO_ON, Burn, Program, Say, samples
from vault_cube.bench.fields import BurnIn, BurntMachine, Gpu
from vault_cube.bench.judge import burn_verdict
from vault_cube.bench.run import machine, suites
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.store import Store, write_whole
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

UNFINISHED = "unfinished"
"""File in the results folder with the name of the unfinished burn-in. The systemd unit runs only if it exists."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(duration: str | float) -> float:
    """Convert a duration such as `90`, `60s`, `5m`, `24h` or `3d` to seconds. Raises VaultCubeError if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(duration).strip())
    if not match or not float(match[1]):
        raise VaultCubeError(f"{duration}: not a duration; write it as 60s, 5m, 24h or 3d")
    return float(match[1]) * UNITS[match[2] or "s"]


@dataclass
class Plan:
    """The request for a burn-in and its progress, stored in `plan.json`."""

    name: str
    seconds: float
    started: str
    boots: list[str]
    """The kernel's boot IDs during the burn-in. More than one means that it continued after a reboot."""
    devices: dict[str, Gpu] = field(default_factory=dict)
    """What burns, by device; empty before the first run."""
    ended: str | None = None
    why: str | None = None


def start(settings: Settings, duration: str | float) -> Plan:
    """Write the plan of a burn-in; `go_on` runs it.

    duration: as for `seconds_of`. Returns the plan. Raises VaultCubeError if another burn-in is unfinished.
    """
    store = Store(Path(settings.benchmark.results))
    seconds = seconds_of(duration)
    if (old := unfinished(store)) is not None:
        raise VaultCubeError(f"{store.folder / old.name}: this burn-in is unfinished; {GO_ON}")
    now = datetime.now(UTC)
    plan = Plan(f"stress-{now:%Y%m%dT%H%M%SZ}", seconds, f"{now:%Y-%m-%dT%H:%M:%SZ}", [])
    with store.exclusive("gpu.stress"):
        _save(store, plan)
        try:
            (store.folder / UNFINISHED).write_text(f"{plan.name}\n")
        except OSError as err:
            raise VaultCubeError(f"{store.folder / UNFINISHED}: {err.strerror}; the burn-in was not started") from None
    return plan


def unfinished(store: Store) -> Plan | None:
    """Return the plan of the unfinished burn-in, or None."""
    try:
        name = (store.folder / UNFINISHED).read_text().strip()
        return Plan(**json.loads((store.folder / name / "plan.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def abandon(settings: Settings) -> BurnIn:
    """End the unfinished burn-in now, and return the verdict on its samples. Raises VaultCubeError if there is none."""
    store = Store(Path(settings.benchmark.results))
    with store.exclusive("gpu.stress"):
        plan = unfinished(store)
        if plan is None:
            raise VaultCubeError(f"{store.folder}: there is no unfinished burn-in")
        return _finish(store, plan, settings, "abandoned by the user", {})


def go_on(settings: Settings, hardware: Hardware, say: Say, workloads: Path = suites.WORKLOADS) -> BurnIn:
    """Run the rest of the unfinished burn-in, and judge it.

    say: called with each line of progress. workloads: folder of the workload programs. Returns the verdict. Raises
    VaultCubeError if there is no unfinished burn-in, if a GPU has no temperature, or if the burn-in was interrupted
    and can continue later.
    """
    store = Store(Path(settings.benchmark.results))
    python = Path(settings.frameworks.folder) / settings.benchmark.environments["matmul"] / "bin/python"
    if not python.exists():
        raise VaultCubeError(f"{python} is missing; run `salt-call --local state.apply frameworks`")
    with store.exclusive("gpu.stress"):
        store.check_room()
        plan = unfinished(store)
        if plan is None:
            raise VaultCubeError(
                f"{store.folder}: there is no unfinished burn-in; start one with `gpu.stress duration=60s`"
            )
        burn = Burn(settings, hardware, say, store.folder / plan.name, plan.seconds)
        why = _ready(store, plan, burn, settings) or burn.run(_programs(python, workloads, settings, hardware))
        described = machine.describe(
            hardware.gpus, hardware.driver, hardware.simulated, Path(settings.validation.manifest)
        )
        facts: BurntMachine = {"simulated": hardware.simulated, "machine": described.model_dump(mode="json")}
        return _finish(store, plan, settings, why, facts)


def _ready(store: Store, plan: Plan, burn: Burn, settings: Settings) -> str | None:
    """Enter this run into the plan; return why the burn-in cannot go on, or None.

    Raises VaultCubeError, and forgets the burn-in, if it has not begun and a GPU has no temperature.
    """
    hardware, since = burn.hardware, burn.last_time or datetime.fromisoformat(plan.started).timestamp()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    resumed = bool(plan.boots)
    if boot not in plan.boots:
        plan.boots.append(boot)
    burn.boot = len(plan.boots)
    if not plan.devices:
        plan.devices = {f"cuda:{gpu['index']}": gpu for gpu in hardware.gpus}
    _save(store, plan)
    present = {f"cuda:{gpu['index']}": gpu.get("uuid") for gpu in hardware.gpus}
    missing = [
        f"{device} ({card.get('uuid', card.get('name'))})"
        for device, card in plan.devices.items()
        if device not in present or card.get("uuid") != present[device]
    ]
    if missing:
        return f"{', '.join(missing)}: no longer there; the burn-in began with it"
    if resumed:
        burn.save_earlier_xids(since)
    blind = burn.blind(settings.benchmark.stress.blind_s)
    if blind and not resumed:
        (store.folder / UNFINISHED).unlink(missing_ok=True)
        raise VaultCubeError(
            f"{'; '.join(blind)}; a burn-in could not stop when it gets too hot, so it does not start: see `gpu.health`"
        )
    return "; ".join(blind) or None


def _programs(python: Path, workloads: Path, settings: Settings, hardware: Hardware) -> dict[str, Program]:
    """Return the program that burns each device. Each sees only its own GPU, by its UUID."""
    share = settings.benchmark.stress.memory["nvidia" if hardware.gpus else "cpu"]
    command = [str(python), str(workloads / "burn.py"), "--memory", f"{share:g}", "--device"]
    if not hardware.gpus:
        return {"cpu": Program([*command, "cpu"], {})}
    return {
        f"cuda:{gpu['index']}": Program(
            [*command, "cuda:0" if "uuid" in gpu else f"cuda:{gpu['index']}"], suites.chosen_gpus([gpu])
        )
        for gpu in hardware.gpus
    }


def _finish(store: Store, plan: Plan, settings: Settings, why: str | None, facts: BurntMachine) -> BurnIn:
    folder = store.folder / plan.name
    plan.ended, plan.why = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", why
    rules = burn_verdict.Rules(plan.devices, settings.benchmark.stress, settings.benchmark.ceilings)
    verdict: BurnIn = {
        "schema_version": 2,
        "name": plan.name,
        "started": plan.started,
        "asked_s": plan.seconds,
        "boots": len(plan.boots),
        **facts,
        **burn_verdict.judge(samples(folder), plan.seconds, why, rules),
    }
    write_whole(folder / "verdict.json", verdict)
    _save(store, plan)
    (store.folder / UNFINISHED).unlink(missing_ok=True)
    return verdict


def _save(store: Store, plan: Plan) -> None:
    write_whole(store.folder / plan.name / "plan.json", asdict(plan))
