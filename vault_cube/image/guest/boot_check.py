"""The boot test: a guest of the finished image is asked, mostly from outside, whether it is what its states say."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.cases import CASES, Expected, Trial, Wrong
from vault_cube.image.guest.machine import guest
from vault_cube.image.guest.qemu import Hardware, Qemu
from vault_cube.image.guest.seed import seed
from vault_cube.image.layers import tools
from vault_cube.image.progress import console
from vault_cube.image.workspace import Workspace


@dataclass(frozen=True)
class Case:
    """The verdict on one promise."""

    name: str
    passed: bool
    evidence: str
    seconds: float


def judge(trial: Trial, cases: Iterable[Callable[[Trial], str]] = CASES) -> list[Case]:
    """Ask each case; one that fails does not keep the others from being asked."""
    verdicts = []
    for case in cases:
        name, started = case.__name__.replace("_", " "), time.monotonic()
        try:
            passed, evidence = True, case(trial)
        except (Wrong, VaultCubeError) as err:
            passed, evidence = False, str(err)
        except (OSError, ValueError, KeyError, IndexError, StopIteration, subprocess.SubprocessError) as err:
            # an answer that is no answer is a failure of the guest
            passed, evidence = False, f"unreadable answer: {type(err).__name__}: {err}"
        verdicts.append(Case(name, passed, evidence, round(time.monotonic() - started, 1)))
        mark = "[green]✓[/]" if passed else "[red]✗[/]"
        console.print(f"  {mark} {name}: ", end="")
        console.print(evidence, markup=False)
    return verdicts


def boot_test(image: Path, expected: Expected, qemu: Qemu, hardware: Hardware, console_log: Path) -> list[Case]:
    """Boot an image once and judge it. Returns the verdicts; the caller decides what a failed one means.

    console_log: where the serial console's log is kept.
    Raises VaultCubeError when the test cannot be run at all: no root, no QEMU, no image.
    """
    if os.geteuid():
        raise VaultCubeError("the boot test needs root: it puts the guest into a network of its own")
    with (
        seed(expected.user, expected.ssh_port) as key,
        guest(image, key, qemu, hardware, console=console_log, own_network=True) as box,
    ):
        started = time.monotonic()
        try:
            box.wait_for_ssh(600)
        except VaultCubeError as err:
            return [Case("first boot", False, str(err), round(time.monotonic() - started, 1))]
        first = Case("first boot", True, f"ssh answers ({box.accelerator})", round(time.monotonic() - started, 1))
        console.print(f"  [green]✓[/] first boot: ssh answers after {first.seconds:.0f} s ({box.accelerator})")
        verdicts = [first, *judge(Trial(box, expected))]
        started = time.monotonic()
        off = box.shut_down(180)
        said = "the power button ends it" if off else "still running 180 s after the power button"
        return [*verdicts, Case("shut down", off, said, round(time.monotonic() - started, 1))]


def prove(space: Workspace, image: Path) -> list[Case]:
    """Judge an image of a target with the tools tree's QEMU; the verdicts are kept in build/<target>/boot-test.json.

    Raises VaultCubeError when a case failed, naming all that did.
    """
    qemu = Qemu.of_tree(tools.tree(space))
    log, kept = space.logs / "console.log", space.build / "boot-test.json"
    cases = boot_test(image, Expected.of(space.settings), qemu, Hardware.of_this_machine(), log)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(as_json(cases), indent=1) + "\n")
    failed = [f"{case.name} ({case.evidence})" for case in cases if not case.passed]
    if failed:
        raise VaultCubeError(f"{image.name} failed its boot test: {'; '.join(failed)}; the serial console: {log}")
    return cases


def as_json(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """The verdicts as plain data."""
    return [asdict(case) for case in cases]


def table(cases: Iterable[Case]) -> Table:
    """The verdicts for a person."""
    shown = Table("", "case", "seconds", "evidence")
    for case in cases:
        shown.add_row("✓" if case.passed else "✗", case.name, f"{case.seconds:.1f}", case.evidence)
    return shown
