"""Start a guest from a finished image. The image does not change: all writes go to a temporary overlay.

    with seed("vaultadmin", 22) as login, guest(Path("box.qcow2"), login, qemu, hardware) as box:
        box.ssh("uptime")

QEMU is killed when the process that started it exits, for whatever reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.qemu import BRIDGE, GUEST_TAP, USER_TAP, Disk, Hardware, Qemu, Run, command, free_port
from vault_cube.image.guest.seed import Seed, seed, vanishing
from vault_cube.image.progress import note, step
from vault_cube.process import Process, Result, log_tail

ALIVE = b"Linux version"
SILENCE_S = 8.0
"""Seconds without console output after which KVM counts as broken; OVMF prints within 2 s under KVM."""
KERNEL_S = 30.0
"""Time limit for the kernel's first line, in seconds; OVMF and the kernel need 3 s for it under KVM."""
STALL = re.compile(rb"rcu.*(detected stalls|self-detected stall|kthread starved)")
"""What the kernel prints when a processor has not made progress for 21 s."""
STALLED_S = 180.0
"""Seconds after such a report in which an emulated guest may recover."""
SSH_TRIES_S = 5.0
FIRST_BOOT_S = {"kvm": 600, "tcg": 1800}
"""Time limit until ssh answers, in seconds, by accelerator. Emulation took 38 s on one idle machine and 133 s on
another; beside other work it takes several times as long."""

NETWORK_SCRIPT = Path(__file__).with_name("network.sh")
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
OUTSIDE = "10.0.2.100"
"""First of the addresses from which cases connect to the guest."""
OUTSIDES = 16
"""Number of those addresses."""


class StalledError(VaultCubeError):
    """An emulated guest reported a stalled processor, and its ssh did not answer afterwards."""


@dataclass(frozen=True)
class Guest:
    """A running guest."""

    process: Process[bytes]
    run: Run
    seed: Seed
    accelerator: str
    """Accelerator of QEMU: kvm or tcg."""
    work: Path
    """Scratch folder, removed when the guest ends."""

    @property
    def outside(self) -> list[str]:
        """Command prefix that enters the guest's network namespace; empty if the guest has none."""
        return ["nsenter", "--target", str(self.process.pid), "--net"] if self.run.own_network else []

    def ssh_command(self, *options: str, user: str | None = None) -> list[str]:
        """Return the ssh command line for the guest, to which a remote command can be appended."""
        return [
            "ssh",
            *("-F", "none", "-i", str(self.seed.key), "-p", str(self.run.port)),
            *("-o", f"UserKnownHostsFile={self.work / 'known_hosts'}", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
            *options,
            f"{user or self.seed.user}@127.0.0.1",
        ]

    def ssh(self, remote: str, *, timeout_s: float = 120, check: bool = True, stdin: str | None = None) -> Result:
        """Run a shell command in the guest as the seed's user. All calls share one connection.

        timeout_s: time limit of the whole call, in seconds. check: raise an error if the command's status is not 0.
        Returns status and output. Raises VaultCubeError.
        """
        shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self.work}/ssh", "-o", "ControlPersist=60")
        call = [*self.outside, *self.ssh_command(*shared, "-o", "ConnectTimeout=20"), remote]
        try:
            done = process.run(call, input=stdin or "", timeout_s=timeout_s, ok=None)
        except process.TimedOut as err:
            raise VaultCubeError(f"in the guest: `{remote}` did not finish within {timeout_s:.0f} s") from err
        if check and done.returncode:
            output = (done.stderr or done.stdout).strip() or "no output"
            raise VaultCubeError(f"in the guest: `{remote}` failed with status {done.returncode}: {output[-400:]}")
        return done

    def wait_for_ssh(self, timeout_s: float | None = None) -> float:
        """Wait until the seed's key can log in by ssh.

        timeout_s: time limit in seconds; None: that of FIRST_BOOT_S.
        Returns the time that it took, in seconds. Raises VaultCubeError if QEMU ends or the time is over, StalledError
        if an emulated guest reports a stalled processor and does not recover.
        """
        reported = None
        limit = FIRST_BOOT_S[self.accelerator] if timeout_s is None else timeout_s
        started = time.monotonic()
        while (waited := time.monotonic() - started) < limit:
            if self.process.poll() is not None:
                raise VaultCubeError(f"QEMU ended with status {self.process.returncode}: {self._last_output()}")
            with suppress(VaultCubeError):
                self.ssh("true", timeout_s=SSH_TRIES_S * 6)
                return time.monotonic() - started
            if reported is None and self.accelerator == "tcg" and STALL.search(self.run.console.read_bytes()):
                reported = time.monotonic()
            if reported is not None and time.monotonic() - reported > STALLED_S:
                raise StalledError(f"the emulated guest stalled while it booted; console: {self.run.console}")
            time.sleep(1)
        raise VaultCubeError(
            f"no ssh login within {waited:.0f} s ({self.accelerator}); "
            f"the end of the serial console ({self.run.console}):\n{log_tail(self.run.console)}"
        )

    def _last_output(self) -> str:
        return log_tail(self.work / "qemu.log", 3) or log_tail(self.run.console, 3)

    def shut_down(self, timeout_s: float = 60) -> bool:
        """Press the power button, and kill the guest if it still runs after timeout_s seconds.

        Returns whether the guest powered off by itself.
        """
        clean = False
        if self.process.poll() is None:
            # without an answer of QEMU's monitor the guest can only be killed
            with suppress(OSError, ValueError, process.TimeoutExpired):
                qmp(self.run.qmp, "system_powerdown")
                self.process.wait(timeout_s)
                clean = True
        self.kill()
        return clean

    def kill(self) -> None:
        """Kill QEMU. The overlay with all writes is discarded in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def qmp(path: Path, execute: str) -> Any:
    """Send one command to QEMU's monitor.

    Returns its answer; None if the monitor closes the connection. Raises OSError, and ValueError with an error of QEMU.
    """
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(str(path))
        stream = monitor.makefile("rw", encoding="utf-8")
        stream.readline()  # the greeting
        answer: dict[str, Any] = {}
        for name in ("qmp_capabilities", execute):
            stream.write(json.dumps({"execute": name}) + "\n")
            stream.flush()
            answer = {}
            # events may precede the answer
            while "return" not in answer and "error" not in answer:
                line = stream.readline()
                if not line:
                    return None
                answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"]["desc"])
        return answer["return"]


@contextmanager
def guest(
    image: Path,
    key: Seed,
    qemu: Qemu,
    hardware: Hardware,
    *,
    console: Path | None = None,
    own_network: bool = False,
    accelerator: str | None = None,
) -> Iterator[Guest]:
    """Start a guest from an image (qcow2 or raw), and kill it at the end of the block.

    key: the seed whose key can log in. console: file for the log of the serial console; None: the log is removed with
    the guest. own_network: run the guest in its own network namespace, where cases can connect to it from OUTSIDE and
    the addresses that follow; needs root. accelerator: kvm or tcg; None: kvm if a guest boots under it.
    Start the guest from a thread that lives at least as long: QEMU is killed when that thread ends.
    Raises VaultCubeError.
    """
    Disk.of(image)
    if own_network and os.geteuid():
        raise VaultCubeError("a guest with its own network namespace needs root: run this as root")
    with vanishing("guest") as work:
        chosen = accelerator or choose_accelerator(
            Path("/dev/kvm"), lambda: lives_under_kvm(image, key, qemu, hardware, work)
        )
        run = prepare(image, key, qemu, hardware, work, console=console, own_network=own_network)
        box = Guest(start(qemu, hardware, run, chosen, work), run, key, chosen, work)
        try:
            yield box
        finally:
            box.kill()


def prepare(
    image: Path,
    key: Seed,
    qemu: Qemu,
    hardware: Hardware,
    work: Path,
    *,
    console: Path | None = None,
    own_network: bool = False,
) -> Run:
    """Create the overlay, the firmware's variables and an empty console log for one start, in a scratch folder.

    Returns the files and ports of that start. Raises VaultCubeError if qemu-img fails.
    """
    disk, variables = work / "disk.qcow2", work / "variables.fd"
    console = console or work / "console.log"
    console.parent.mkdir(parents=True, exist_ok=True)
    console.write_bytes(b"")
    shutil.copyfile(qemu.variables, variables)
    backing = Disk.of(image)
    formats = ["-f", "qcow2", "-F", backing.form, "-b", str(image.resolve())]
    process.run(
        [*qemu.image, "create", "-q", *formats, disk, str(backing.grown(hardware))],
        purpose=f"{image}: an overlay for it by qemu-img",
    )
    return Run(disk, variables, console, work / "qmp", free_port(), key, own_network)


def start(qemu: Qemu, hardware: Hardware, run: Run, accelerator: str, work: Path) -> Process[bytes]:
    """Start QEMU so that it is killed when this process exits. Returns the process."""
    line: process.Command = command(qemu, hardware, run, accelerator)
    if run.own_network:
        line = in_own_network(line)
    with (work / "qemu.log").open("wb") as log:
        return process.start(
            [*DIES_WITH_US, *line],
            stdin=process.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **qemu.environment},
            # Ctrl-C must reach only this process, which then shuts the guest down
            start_new_session=True,
        )


def in_own_network(command: process.Command) -> list[str | Path]:
    """Return a command that runs another one in a network namespace with the guest's bridge. Needs root."""
    addresses = " ".join(f"10.0.2.{100 + index}/24" for index in range(OUTSIDES))
    return ["unshare", "--net", "sh", NETWORK_SCRIPT, BRIDGE, GUEST_TAP, USER_TAP, addresses, *command]


def choose_accelerator(device: Path, lives: Callable[[], bool]) -> str:
    """Return kvm if its device can be opened and a guest boots under it; else tcg, which works everywhere.

    lives: boots a guest and returns whether its kernel started. Needed because KVM's ioctls succeed on some machines
    whose guests hang; called only if the device can be opened.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return "tcg"
    return "kvm" if lives() else "tcg"


def lives_under_kvm(image: Path, key: Seed, qemu: Qemu, hardware: Hardware, work: Path) -> bool:
    """Boot the image under KVM, with the machine and processor of the real run. Returns whether its kernel starts."""
    folder = work / "probe"
    folder.mkdir()
    run = prepare(image, key, qemu, hardware, folder)
    started = start(qemu, hardware, run, "kvm", folder)
    try:
        return kernel_speaks(started, run.console)
    finally:
        started.kill()
        started.wait()
        shutil.rmtree(folder)


def kernel_speaks(
    qemu: Process[bytes], console: Path, silence_s: float = SILENCE_S, kernel_s: float = KERNEL_S
) -> bool:
    """Return whether a guest's kernel prints its first line on the serial console.

    console: the console's log. silence_s: give up after this many seconds without any output. kernel_s: give up after
    this many seconds in all.
    """
    started = time.monotonic()
    while (waited := time.monotonic() - started) < kernel_s and qemu.poll() is None:
        output = console.read_bytes()
        if ALIVE in output:
            return True
        if not output and waited > silence_s:
            return False
        time.sleep(0.1)
    return False


def boot(image: Path, qemu: Qemu, hardware: Hardware, *, user: str, port: int, console: Path) -> None:
    """Boot an image for interactive use: print the ssh command, and wait until the guest powers off or Ctrl-C stops it.

    user: account to log in to. port: port of the guest's sshd. console: file for the log of the serial console.
    """

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # SIGTERM shuts the guest down as Ctrl-C does
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with seed(user, port) as login, guest(image, login, qemu, hardware, console=console) as box:
            try:
                note(f"{image.name}: {hardware.cpus} processors, {hardware.memory_mib} MiB, {box.accelerator}")
                note(f"serial console: tail -f {console}")
                with step("boot: wait for ssh"):
                    box.wait_for_ssh()
                note(" ".join(person_ssh(box)))
                note("press Ctrl-C to stop the guest; the image does not change")
                box.process.wait()
            except KeyboardInterrupt:
                note("stopping the guest; press Ctrl-C again to kill it")
                box.shut_down()
    except KeyboardInterrupt:
        note("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def person_ssh(box: Guest) -> Sequence[str]:
    """Return the ssh command to print for interactive use."""
    return (
        *("ssh", "-i", str(box.seed.key), "-p", str(box.run.port)),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        f"{box.seed.user}@127.0.0.1",
    )
