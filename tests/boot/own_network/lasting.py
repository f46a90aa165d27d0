"""A guest whose disk outlives QEMU: it loses its power or is shut down, and is started again.

The guest has its own network namespace, so nothing that it sends leaves this machine.
"""

import json
import shlex
import time
from dataclasses import replace

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import machine
from vault_cube.image.guest.machine import Guest

SALT = "sudo salt-call --local --out=json --log-level=quiet"
LIMIT_S = 1800


class Lasting:
    """The disk of a guest, and the guest while it runs."""

    def __init__(self, image, login, qemu, hardware, work, console, accelerator):
        self.login, self.qemu, self.hardware, self.work, self.accelerator = login, qemu, hardware, work, accelerator
        self.run = machine.prepare(image, login, qemu, hardware, work, console=console, own_network=True)
        self.box = None
        self.starts = 0

    def start(self, *devices):
        """Start the guest and wait until it has booted. devices: further words for QEMU. Returns the guest.

        QEMU ends when the guest reboots (-no-reboot), so a boot that reboots by itself fails here.
        """
        assert self.box is None
        self.starts += 1
        # ssh's connection is kept in this folder, and ends with QEMU
        folder = self.work / f"start-{self.starts}"
        folder.mkdir()
        run = replace(self.run, devices=devices)
        process = machine.start(self.qemu, self.hardware, run, self.accelerator, folder)
        self.box = Guest(process, run, self.login, self.accelerator, folder)
        self.box.wait_for_ssh()
        self.box.ssh("cloud-init status --wait; systemctl is-system-running --wait", timeout_s=LIMIT_S, check=False)
        return self.box

    def lose_power(self):
        """Kill QEMU. What the guest has not flushed is lost."""
        box, self.box = self.box, None
        box.kill()

    def reboot(self, *devices):
        """Reboot the guest in an orderly way. Returns the guest."""
        # the connection ends before the command does
        self.box.ssh("sudo systemctl reboot", check=False)
        self._wait_for_the_end()
        return self.start(*devices)

    def _wait_for_the_end(self, timeout_s=600):
        box, self.box = self.box, None
        until = time.monotonic() + timeout_s
        try:
            while box.process.poll() is None:
                if time.monotonic() > until:
                    raise VaultCubeError(f"the guest still runs {timeout_s} s after it was told to reboot")
                time.sleep(0.5)
        finally:
            box.kill()

    def end(self):
        """Kill the guest if it runs."""
        if self.box is not None:
            self.lose_power()


def salt(box, *words):
    """Run salt-call in the guest. Returns the result and the exit status."""
    done = box.ssh(f"{SALT} {shlex.join(words)}", timeout_s=LIMIT_S, check=False)
    try:
        return json.loads(done.stdout)["local"], done.returncode
    except (ValueError, KeyError) as err:
        raise VaultCubeError(f"{words}: {(done.stdout + done.stderr).strip()[-800:]}") from err


def apply(box, *words):
    """Apply all states. Returns the comments of failed states by id, and the ids of those that changed something."""
    states, _ = salt(box, "state.apply", *words)
    assert isinstance(states, dict), states
    failed = {state["__id__"]: state["comment"] for state in states.values() if state["result"] is False}
    changed = sorted(state["__id__"] for state in states.values() if state["changes"])
    return failed, changed


def drift(box):
    """Run drift.report. Returns the result, and the findings in short: class, what and change."""
    result, _ = salt(box, "drift.report")
    assert isinstance(result, dict), result
    return result, [(finding["class"], finding["what"], finding["change"]) for finding in result["findings"]]


def root(box, script, timeout_s=300):
    """Run a shell script in the guest as root; it must succeed. Returns its output."""
    return box.ssh("sudo sh -eu", stdin=script, timeout_s=timeout_s).stdout.strip()
