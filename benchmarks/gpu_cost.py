"""What asking the GPUs costs, in milliseconds, over the fake NVML of the tests or this machine's driver. Run by the
checkout's own Python.

    .venv/bin/python benchmarks/gpu_cost.py [--repeats 15] [--own] [--nvitop PYTHON]

Each sample is a process of its own that has loaded what Salt's loader has loaded before it comes to a grain, and then
times one call, imports included; `salt-call` is timed as a whole. The cases take turns, so that a busy machine is as
busy for all of them. Wall time, and the processor's time of the caller and its child: on a busy machine the second is
the one to read, except for drivers that hang, which cost wall time. --nvitop: a Python that has nvitop, whose snapshot
of all devices is measured in the same turns, with the ratio to it in the result. A real driver adds NVML's own time,
most of it for opening: `--own` measures it, and what came from the fake says `simulated`. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP), str(TOP / "tests/nvml")]

HANGS = "nvmlDeviceGetName"
HANGING_REPEATS = 3


@dataclass(frozen=True)
class Case:
    """what: the call. profile: the fake's machine, None for one without a driver. limit_ms: what it may take."""

    what: str
    profile: str | None
    limit_ms: float | None = None
    hangs: bool = False


CASES = {
    "grain, four GPUs": Case("grain", "4x5090", 50),
    "grain, no driver": Case("grain", None, 5),
    "readings, four GPUs": Case("readings", "4x5090"),
    "readings, sixteen GPUs": Case("readings", "16x5090"),
    "gpu.health, four GPUs": Case("health", "4x5090", 150),
    "gpu.health, sixteen GPUs": Case("health", "16x5090"),
    "gpu.health, no driver": Case("health", None),
    "gpu.detect, four GPUs": Case("detect", "4x5090"),
    "salt-call test.ping, no driver": Case("ping", None),
    "salt-call test.ping, four GPUs": Case("ping", "4x5090"),
    "salt-call test.ping, four GPUs that hang": Case("ping", "4x5090", hangs=True),
    "salt-call test.ping, sixteen GPUs that hang": Case("ping", "16x5090", hangs=True),
    "gpu.health, four GPUs that hang": Case("health", "4x5090", 15_000, hangs=True),
    "gpu.health, sixteen GPUs that hang": Case("health", "16x5090", 15_000, hangs=True),
}
NVITOP = {"nvitop's snapshot, four GPUs": Case("nvitop", "4x5090"),
          "nvitop's snapshot, sixteen GPUs": Case("nvitop", "16x5090")}  # fmt: skip
RATIOS = {
    "readings, four GPUs": "nvitop's snapshot, four GPUs",
    "readings, sixteen GPUs": "nvitop's snapshot, sixteen GPUs",
    "gpu.health, four GPUs": "nvitop's snapshot, four GPUs",
    "gpu.health, sixteen GPUs": "nvitop's snapshot, sixteen GPUs",
}
SNAPSHOT = """
import json, resource, time
began = time.perf_counter()
from nvitop import Device
count = len([one.as_snapshot() for one in Device.all()])
wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall_ms": wall * 1000, "cpu_ms": (used.ru_utime + used.ru_stime) * 1000, "simulated": True}))
"""


# as in conf/common.conf: no name is looked up, no bus is listed
SALTS_GRAINS = {"enable_fqdns_grains": False, "enable_gpu_grains": False}


class Used:
    """Seconds that its bodies took together: wall, and the processor's of this process and its ended children."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._before = self._now()

    def __exit__(self, *_: object) -> None:
        wall, cpu = (after - before for after, before in zip(self._now(), self._before, strict=True))
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu

    @staticmethod
    def _now() -> tuple[float, float]:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in both)


def one(what: str) -> None:
    """Time one call in this process, and print it."""
    import salt.config
    import salt.grains.core
    import salt.loader
    import yaml
    from salt.utils.dictupdate import merge

    files = ("box.sls", "targets/ubuntu-24.04.sls")
    parts = [yaml.safe_load((TOP / "pillar" / name).read_text()) for name in files]
    pillar = merge(*parts, strategy="recurse", merge_lists=False)
    pillar["runtime"]["provider"] = "none"
    opts = salt.config.apply_minion_config(dict(SALTS_GRAINS))
    used = Used()
    if what == "readings":
        with used:
            from vault_cube.gpu.nvml.session import Session
            from vault_cube.gpu.read.readings import readings

            with Session() as session:
                found = {"gpus": readings(session), "simulated": session.simulated}
    elif what == "grain":
        sys.path.append(str(TOP / "_grains"))
        with used:
            import gpu
        # what Salt does between loading a grain and asking for it
        salt.loader.grains(opts)
        with used:
            found = gpu.gpu()["gpu"]
    else:
        with used, tempfile.TemporaryDirectory() as cache:
            from vault_cube.gpu import verbs

            options = {"load": False, "window_s": None, "cache": Path(cache)} if what == "health" else {}
            found, _ = getattr(verbs, what)(pillar, **options)
    said = {"wall_ms": used.wall * 1000, "cpu_ms": used.cpu * 1000, "simulated": found.get("simulated", False)}
    print(json.dumps(said))


def sample(case: Case, environment: dict[str, str], nvitop: str | None) -> dict[str, Any]:
    """One process: wall_ms, cpu_ms, simulated."""
    if case.what == "ping":
        used = Used()
        with used:
            words = [str(Path(sys.executable).with_name("salt-call")), "--local", "--log-level=quiet", "test.ping"]
            subprocess.run(words, cwd=TOP, env=environment, capture_output=True, check=True)
        return {"wall_ms": used.wall * 1000, "cpu_ms": used.cpu * 1000, "simulated": case.profile is not None}
    words = [str(nvitop), "-c", SNAPSHOT] if case.what == "nvitop" else [sys.executable, __file__, "--one", case.what]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(ran.stdout)
    if case.what == "nvitop":
        # its imports and the interpreter's start are one: the start of a bare interpreter is taken off
        bare = [str(nvitop), "-c", "import resource as r; u = r.getrusage(0); print(u.ru_utime + u.ru_stime)"]
        answer["cpu_ms"] -= float(subprocess.run(bare, capture_output=True, text=True, check=True).stdout) * 1000
    return answer


def spread(values: list[float]) -> dict[str, object]:
    values = sorted(round(value, 2) for value in values)
    return {"median": statistics.median(values), "least": values[0], "most": values[-1], "samples": values}


def measured(
    cases: dict[str, Case], environments: dict[str, dict[str, str]], repeats: int, nvitop: str | None
) -> dict[str, Any]:
    """All cases in turns, name → {limit_ms, wall_ms, cpu_ms, simulated}; the first turn fills the page cache."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        print(f"  turn {turn} of {repeats} …", file=sys.stderr)
        for name, case in cases.items():
            # a hang takes its time limit, whatever else happens
            if turn <= HANGING_REPEATS or not case.hangs:
                samples[name].append(sample(case, environments[name], nvitop))
    return {
        name: {
            "limit_ms": cases[name].limit_ms,
            **{key: spread([one[key] for one in values[1:]]) for key in ("wall_ms", "cpu_ms")},
            "simulated": values[0]["simulated"],
        }
        for name, values in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--own", action="store_true", help="ask this machine's own GPUs")
    parser.add_argument("--nvitop", help="a Python that has nvitop: its snapshot is measured, too")
    parser.add_argument("--one", choices=("grain", "readings", "health", "detect"))
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one)
        return
    from fake_nvml import FakeNvml, compile_library

    from vault_cube.bench.run.hardware import open_hardware
    from vault_cube.bench.run.machine import describe

    # on a box the byte code is there
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if chosen.own:
        cases = {
            name.replace("four GPUs", "this machine's own"): case
            for name, case in CASES.items()
            if case.profile == "4x5090" and not case.hangs
        }
        answer = measured(cases, dict.fromkeys(cases, environment), chosen.repeats, None)
        with open_hardware(10) as own_gpus:
            machine = describe(own_gpus.gpus, own_gpus.driver, own_gpus.simulated, None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            library = compile_library(folder)
            if library is None:
                sys.exit("gpu_cost: it needs a C compiler (cc) for the fake NVML")
            cases = CASES | (NVITOP if chosen.nvitop else {})
            environments = {}
            for number, (name, case) in enumerate(cases.items()):
                fake = FakeNvml(Path(folder) / f"state.{number}", library)
                if case.profile:
                    fake.profile(case.profile)
                if case.hangs:
                    fake.every(hang={HANGS: 1})
                environments[name] = environment | (fake.environment if case.profile else {})
            answer = measured(cases, environments, chosen.repeats, chosen.nvitop)
        machine = describe([], None, True, None)
    ratios = {
        f"{ours} / {theirs}": {
            key: round(answer[ours][key]["median"] / answer[theirs][key]["median"], 2) for key in ("wall_ms", "cpu_ms")
        }
        for ours, theirs in RATIOS.items()
        if ours in answer and theirs in answer
    }
    shown = machine.model_dump(mode="json", exclude={"image"})
    document = {"date": time.strftime("%Y-%m-%d"), "machine": shown, "ratios": ratios, "cases": answer}
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
