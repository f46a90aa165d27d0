"""A guest started from a finished image, which does not change: a throw-away overlay takes all that is written.

    with seed("vaultadmin", 22) as key, guest(Path("box.qcow2"), key, qemu, hardware) as box:
        box.ssh("uptime")

QEMU dies with the process that started it, however that ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.qemu import BRIDGE, GUEST_TAP, USER_TAP, Disk, Hardware, Qemu, Run, command, free_port
from vault_cube.image.guest.seed import Seed, seed, vanishing
from vault_cube.image.progress import log_tail, note, step

ALIVE = b"Linux version"
SILENCE_S = 8.0
"""OVMF writes to the serial console within 2 s under KVM; a guest that says nothing for this long does not live"""
KERNEL_S = 30.0
"""OVMF and the kernel's first line take 3 s under KVM"""
SSH_TRIES_S = 5.0

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
OUTSIDE = "10.0.2.100"
"""the first of OUTSIDES addresses that look at the guest from outside"""
OUTSIDES = 16


@dataclass(frozen=True)
class Guest:
    """A running guest."""

    process: subprocess.Popen[bytes]
    run: Run
    seed: Seed
    accelerator: str
    """kvm or tcg"""
    work: Path
    """scratch, gone with the guest"""

    @property
    def outside(self) -> list[str]:
        """The prefix that runs a command in the guest's network, when it has one of its own."""
        return ["nsenter", "--target", str(self.process.pid), "--net"] if self.run.own_network else []

    def ssh_command(self, *options: str, user: str | None = None) -> list[str]:
        """The ssh command line to the guest, ready for a remote command to be appended."""
        return [
            "ssh",
            *("-F", "none", "-i", str(self.seed.key), "-p", str(self.run.port)),
            *("-o", f"UserKnownHostsFile={self.work / 'known_hosts'}", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
            *options,
            f"{user or self.seed.user}@127.0.0.1",
        ]

    def ssh(
        self, remote: str, *, timeout_s: float = 120, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the guest as the seed's user; one connection carries them all.

        timeout_s: of the whole call, s. Raises VaultCubeError when it runs out of time, and, with `check`, when the
        command's status is not 0.
        """
        shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self.work}/ssh", "-o", "ControlPersist=60")
        call = [*self.outside, *self.ssh_command(*shared, "-o", "ConnectTimeout=20"), remote]
        try:
            done = subprocess.run(
                call,
                input=stdin or "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise VaultCubeError(f"in the guest: `{remote}` did not end within {timeout_s:.0f} s") from None
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip() or "nothing said"
            raise VaultCubeError(f"in the guest: `{remote}` failed with status {done.returncode}: {said[-400:]}")
        return done

    def wait_for_ssh(self, timeout_s: float) -> float:
        """Wait until ssh lets the key in. Returns the seconds it took. Raises VaultCubeError."""
        started = time.monotonic()
        while (waited := time.monotonic() - started) < timeout_s:
            if self.process.poll() is not None:
                raise VaultCubeError(f"QEMU ended with status {self.process.returncode}: {self._said()}")
            with suppress(VaultCubeError):
                self.ssh("true", timeout_s=SSH_TRIES_S * 6)
                return time.monotonic() - started
            time.sleep(1)
        raise VaultCubeError(
            f"no ssh within {waited:.0f} s; the end of the serial console ({self.run.console}):\n"
            + log_tail(self.run.console)
        )

    def _said(self) -> str:
        return log_tail(self.work / "qemu.log", 3) or log_tail(self.run.console, 3)

    def shut_down(self, timeout_s: float = 60) -> bool:
        """Press the power button and wait; after that time, s, pull the plug. Returns whether it went by itself."""
        clean = False
        if self.process.poll() is None:
            # a monitor that does not answer has no button to press
            with suppress(OSError, ValueError, subprocess.TimeoutExpired):
                qmp(self.run.qmp, "system_powerdown")
                self.process.wait(timeout_s)
                clean = True
        self.kill()
        return clean

    def kill(self) -> None:
        """Pull the plug. What was written is thrown away in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def qmp(path: Path, execute: str) -> Any:
    """Send one command to QEMU's monitor; returns its answer. Raises OSError, ValueError."""
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
            # events may come in between
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
    """Start a guest from an image (qcow2 or raw), and stop it at the end of the block.

    console: where the serial console's log is kept; without it the log goes with the guest. own_network: put it into a
    network namespace of its own, where addresses OUTSIDE and up look at it from outside; needs root. accelerator: kvm
    or tcg; None: kvm where a guest lives under it.
    Start it from a thread that outlives it: QEMU dies with that thread.
    Raises VaultCubeError.
    """
    Disk.of(image)
    if own_network and os.geteuid():
        raise VaultCubeError("a guest with a network of its own needs root")
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
    """The overlay, the firmware's variables and an empty console for one start, in a scratch folder."""
    disk, variables = work / "disk.qcow2", work / "variables.fd"
    console = console or work / "console.log"
    console.parent.mkdir(parents=True, exist_ok=True)
    console.write_bytes(b"")
    shutil.copyfile(qemu.variables, variables)
    found = Disk.of(image)
    made = subprocess.run(
        [
            *qemu.image,
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            found.form,
            "-b",
            str(image.resolve()),
            str(disk),
            str(found.grown(hardware)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise VaultCubeError(f"{image}: qemu-img cannot lay an overlay over it: {made.stderr.strip()}")
    return Run(disk, variables, console, work / "qmp", free_port(), key, own_network)


def start(qemu: Qemu, hardware: Hardware, run: Run, accelerator: str, work: Path) -> subprocess.Popen[bytes]:
    """Start QEMU so that it dies with this process."""
    line = command(qemu, hardware, run, accelerator)
    if run.own_network:
        # the namespace and all in it live as long as QEMU does
        taps = (GUEST_TAP, USER_TAP)
        script = [
            f"ip link add {BRIDGE} type bridge",
            *(f"ip tuntap add {tap} mode tap && ip link set {tap} master {BRIDGE}" for tap in taps),
            *(f"ip link set {device} up" for device in ("lo", BRIDGE, *taps)),
            *(f"ip address add 10.0.2.{100 + index}/24 dev {BRIDGE}" for index in range(OUTSIDES)),
        ]
        line = ["unshare", "--net", "sh", "-euc", "\n".join([*script, 'exec "$@"']), "sh", *line]
    with (work / "qemu.log").open("wb") as log:
        return subprocess.Popen(
            [*DIES_WITH_US, *line],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **qemu.environment},
            # Ctrl-C is for us: QEMU is then told to shut down
            start_new_session=True,
        )


def choose_accelerator(device: Path, lives: Callable[[], bool]) -> str:
    """kvm where its device can be opened and a guest lives under it; else tcg, which works everywhere.

    lives: starts a guest; asked only when the device opens, for an ioctl says yes on machines whose guests hang.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return "tcg"
    return "kvm" if lives() else "tcg"


def lives_under_kvm(image: Path, key: Seed, qemu: Qemu, hardware: Hardware, work: Path) -> bool:
    """Boot the image under KVM, with the machine and processor of the real run, until its kernel speaks."""
    folder = work / "probe"
    folder.mkdir()
    run = prepare(image, key, qemu, hardware, folder)
    process = start(qemu, hardware, run, "kvm", folder)
    try:
        return kernel_speaks(process, run.console)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def kernel_speaks(
    process: subprocess.Popen[bytes], console: Path, silence_s: float = SILENCE_S, kernel_s: float = KERNEL_S
) -> bool:
    """Whether a guest's kernel writes its first line to the serial console; times in s."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < kernel_s and process.poll() is None:
        said = console.read_bytes()
        if ALIVE in said:
            return True
        if not said and waited > silence_s:
            return False
        time.sleep(0.1)
    return False


def boot(image: Path, qemu: Qemu, hardware: Hardware, *, user: str, port: int, console: Path) -> None:
    """Boot an image for a person: print the way in, wait until the guest goes off or Ctrl-C ends it."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # `kill` ends the guest as Ctrl-C does
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with seed(user, port) as key, guest(image, key, qemu, hardware, console=console) as box:
            try:
                note(f"{image.name}: {hardware.cpus} processors, {hardware.memory_mib} MiB, {box.accelerator}")
                note(f"serial console: tail -f {console}")
                with step("boot: wait for ssh"):
                    box.wait_for_ssh(600)
                note(" ".join(person_ssh(box)))
                note("Ctrl-C stops the guest; the image does not change")
                box.process.wait()
            except KeyboardInterrupt:
                note("stopping the guest; Ctrl-C again pulls its plug")
                box.shut_down()
    except KeyboardInterrupt:
        note("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def person_ssh(box: Guest) -> Sequence[str]:
    """The ssh command that a person pastes."""
    return (
        *("ssh", "-i", str(box.seed.key), "-p", str(box.run.port)),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        f"{box.seed.user}@127.0.0.1",
    )
