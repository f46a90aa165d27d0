"""The boot test: boot the finished image and check the running guest, mostly from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vault_cube import verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.cases import CHECKS, Expected, Trial
from vault_cube.image.guest.machine import Guest, StalledError, guest
from vault_cube.image.guest.qemu import Hardware, Qemu
from vault_cube.image.guest.seed import Seed, seed
from vault_cube.image.layers import tools
from vault_cube.image.progress import console, note, write_json
from vault_cube.image.workspace import Workspace
from vault_cube.verdicts import Check, Verdict

STARTS = 2
"""Number of times that an emulated guest is started until its ssh answers."""


def judge(trial: Trial, checks: Iterable[Check] = CHECKS) -> list[Verdict]:
    """Run all checks, even if some fail, and print each verdict. Returns the verdicts in the order of the checks."""
    judged = []
    for check in checks:
        started = time.monotonic()
        for verdict in verdicts.run([check], trial):
            judged.append(_timed(verdict, started))
            mark = "[red]✗[/]" if verdict.bad else "[green]✓[/]"
            console.print(f"  {mark} {verdict.check}: ", end="")
            console.print(verdict.evidence, markup=False)
    return judged


def _timed(verdict: Verdict, started: float) -> Verdict:
    return replace(verdict, seconds=round(time.monotonic() - started, 1))


@contextmanager
def first_boot(
    image: Path, login: Seed, qemu: Qemu, hardware: Hardware, console_log: Path
) -> Iterator[tuple[Guest, Verdict]]:
    """Start a guest and wait for ssh. Yields the guest, and the verdict on its first boot.

    A guest that the emulator stalled is started again from the unchanged image, up to STARTS times in all.
    """
    for number in range(1, STARTS + 1):
        with guest(image, login, qemu, hardware, console=console_log, own_network=True) as box:
            started = time.monotonic()
            try:
                box.wait_for_ssh()
                again = f", start {number}: QEMU stalled the guest before" if number > 1 else ""
                verdict = verdicts.ok(f"ssh answers ({box.accelerator}{again})", check="first boot")
            except VaultCubeError as err:
                if isinstance(err, StalledError) and number < STARTS:
                    note(f"{err}; starting it again")
                    console_log.replace(console_log.with_name(f"{console_log.name}.{number}"))
                    continue
                verdict = verdicts.fault(str(err), check="first boot")
            yield box, _timed(verdict, started)
            return


def boot_test(image: Path, expected: Expected, qemu: Qemu, hardware: Hardware, console_log: Path) -> list[Verdict]:
    """Boot an image once and check it.

    console_log: file for the log of the serial console.
    Returns the verdicts, failed ones included. Raises VaultCubeError if the test cannot run at all: no root, no QEMU,
    no image.
    """
    if os.geteuid():
        raise VaultCubeError("the boot test needs root, to give the guest its own network namespace: run it as root")
    with (
        seed(expected.user, expected.ssh_port) as login,
        first_boot(image, login, qemu, hardware, console_log) as (box, first),
    ):
        if first.bad:
            return [first]
        console.print(f"  [green]✓[/] first boot: {first.evidence} after {first.seconds:.0f} s")
        judged = [first, *judge(Trial(box, expected))]
        started = time.monotonic()
        off = box.shut_down(180)
        evidence = "powered off by the power button" if off else "still running 180 s after the power button"
        return [*judged, _timed(verdicts.verdict(off, evidence, check="shut down"), started)]


def prove(space: Workspace, image: Path) -> verdicts.Report:
    """Boot-test an image with the QEMU of the tools tree, and write the verdicts to build/<target>/boot-test.json.

    Returns the verdicts. Raises VaultCubeError, naming all checks that failed, if there are any.
    """
    qemu = Qemu.of_tree(tools.tree(space))
    log, results = space.logs / "console.log", space.build / "boot-test.json"
    report = verdicts.Report(
        image.name, boot_test(image, Expected.of(space.settings), qemu, Hardware.of_this_machine(), log)
    )
    write_json(results, report.as_dict())
    failed = [f"{verdict.check} ({verdict.evidence})" for verdict in report.verdicts if verdict.bad]
    if failed:
        raise VaultCubeError(f"{image.name} failed its boot test: {'; '.join(failed)}; see the serial console: {log}")
    return report
