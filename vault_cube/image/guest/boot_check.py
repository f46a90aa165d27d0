"""The boot test: boot the finished image and check the running guest, mostly from outside."""

from __future__ import annotations

import json
import os
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
    """The verdict of one check of the boot test."""

    name: str
    passed: bool
    evidence: str
    seconds: float


def judge(trial: Trial, cases: Iterable[Callable[[Trial], str]] = CASES) -> list[Case]:
    """Run all cases, even if some fail, and print each verdict. Returns the verdicts in the order of the cases."""
    verdicts = []
    for case in cases:
        name, started = case.__name__.replace("_", " "), time.monotonic()
        try:
            passed, evidence = True, case(trial)
        except (Wrong, VaultCubeError) as err:
            passed, evidence = False, str(err)
        except (OSError, ValueError, KeyError, IndexError, StopIteration) as err:
            # output of the guest that cannot be parsed counts as a failure of the guest
            passed, evidence = False, f"unreadable answer: {type(err).__name__}: {err}"
        verdicts.append(Case(name, passed, evidence, round(time.monotonic() - started, 1)))
        mark = "[green]✓[/]" if passed else "[red]✗[/]"
        console.print(f"  {mark} {name}: ", end="")
        console.print(evidence, markup=False)
    return verdicts


def boot_test(image: Path, expected: Expected, qemu: Qemu, hardware: Hardware, console_log: Path) -> list[Case]:
    """Boot an image once and check it.

    console_log: file for the log of the serial console.
    Returns the verdicts, failed ones included. Raises VaultCubeError if the test cannot run at all: no root, no QEMU,
    no image.
    """
    if os.geteuid():
        raise VaultCubeError("the boot test needs root, to give the guest its own network namespace: run it as root")
    with (
        seed(expected.user, expected.ssh_port) as login,
        guest(image, login, qemu, hardware, console=console_log, own_network=True) as box,
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
        evidence = "powered off by the power button" if off else "still running 180 s after the power button"
        return [*verdicts, Case("shut down", off, evidence, round(time.monotonic() - started, 1))]


def prove(space: Workspace, image: Path) -> list[Case]:
    """Boot-test an image with the QEMU of the tools tree, and write the verdicts to build/<target>/boot-test.json.

    Returns the verdicts. Raises VaultCubeError, naming all failed cases, if a case failed.
    """
    qemu = Qemu.of_tree(tools.tree(space))
    log, results = space.logs / "console.log", space.build / "boot-test.json"
    cases = boot_test(image, Expected.of(space.settings), qemu, Hardware.of_this_machine(), log)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(as_json(cases), indent=1) + "\n")
    failed = [f"{case.name} ({case.evidence})" for case in cases if not case.passed]
    if failed:
        raise VaultCubeError(f"{image.name} failed its boot test: {'; '.join(failed)}; see the serial console: {log}")
    return cases


def as_json(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Convert the verdicts to plain data."""
    return [asdict(case) for case in cases]


def table(cases: Iterable[Case]) -> Table:
    """Show the verdicts as a table."""
    rows = Table("", "case", "seconds", "evidence")
    for case in cases:
        rows.add_row("✓" if case.passed else "✗", case.name, f"{case.seconds:.1f}", case.evidence)
    return rows
