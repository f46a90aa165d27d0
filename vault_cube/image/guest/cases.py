"""The checks of the boot test. Each is one function that returns its evidence, or raises `Wrong` with the observation.

They run in the order of CHECKS; the check that locks an address out comes last.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import port_scan
from vault_cube.image.guest.machine import OUTSIDE, Guest
from vault_cube.image.guest.qemu import BRIDGE, GUEST
from vault_cube.settings import Settings
from vault_cube.verdicts import Check


@dataclass(frozen=True)
class Expected:
    """The pillar's values that can be checked from outside the box."""

    user: str
    """Name of a user in the groups sudo and docker, who needs no password for either."""
    ports: frozenset[int]
    """TCP ports that the firewall allows."""
    ssh_port: int
    failures: int
    """Number of failed logins after which fail2ban bans the address."""

    @classmethod
    def of(cls, settings: Settings) -> Expected:
        """Read the values from a target's settings. Raises VaultCubeError if no user is in both sudo and docker."""
        base = settings.base
        users = [name for name, account in base.users.items() if {"sudo", "docker"} <= set(account.groups)]
        if not users:
            raise VaultCubeError(
                "pillar: base:users: no user is in both sudo and docker: add one, the boot test logs in as that user"
            )
        return cls(users[0], frozenset(base.firewall.allow_tcp), base.ssh.port, base.fail2ban.failures)


LOGIN_S = 90
"""Time limit of a login, in seconds."""


class Wrong(VaultCubeError):
    """A check of the guest failed; the message is the evidence."""


@dataclass(frozen=True)
class Trial:
    """The running guest and the expected values, passed to every check."""

    box: Guest
    expected: Expected

    def root(self, remote: str, timeout_s: float = 120) -> str:
        """Run a command in the guest as root. Returns its output. Raises VaultCubeError."""
        return self.box.ssh(f"sudo -n {remote}", timeout_s=timeout_s).stdout.strip()

    def user(self, remote: str, timeout_s: float = 120) -> str:
        """Run a command in the guest as the user. Returns its output. Raises VaultCubeError."""
        return self.box.ssh(remote, timeout_s=timeout_s).stdout.strip()

    def login(self, source: str, user: str, *options: str) -> process.Result:
        """Try to log in at the guest's own address from one of the outside addresses, and run `true`.

        A login without an answer, as that of an address which is banned while it is connected, has the status 255.
        """
        line = [
            "ssh",
            *("-F", "none", "-b", source, "-p", str(self.expected.ssh_port), "-o", "ConnectTimeout=15"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", *options),
            *(f"{user}@{GUEST}", "true"),
        ]
        try:
            return process.run([*self.box.outside, *line], timeout_s=LOGIN_S, ok=None)
        except process.TimedOut:
            return process.Result(255, "", f"timed out after {LOGIN_S} s without an answer")

    def open_ports(self, address: str, *ports: str) -> list[int]:
        """Scan an address from the guest's network. Returns the open ports. Raises VaultCubeError."""
        scan = [*self.box.outside, sys.executable, port_scan.__file__, address, *ports]
        ports_open: list[int] = json.loads(process.run(scan, purpose=f"scan of {address}", timeout_s=300).stdout)
        return ports_open


def address(index: int) -> str:
    """Return one of the outside addresses. Each check uses its own, because fail2ban may ban it."""
    head, _, last = OUTSIDE.rpartition(".")
    return f"{head}.{int(last) + index}"


# ---- first boot


def system_is_running(trial: Trial) -> str:
    """Check that systemd reports `running`: everything has started and no unit failed."""
    state = trial.box.ssh("systemctl is-system-running --wait", timeout_s=600, check=False).stdout.strip()
    failed = trial.user("systemctl list-units --failed --plain --no-legend")
    if state != "running" or failed:
        raise Wrong(f"{state}; failed units: {' '.join(line.split()[0] for line in failed.splitlines()) or 'none'}")
    return "running, no failed unit"


def no_unit_waits_for_itself(trial: Trial) -> str:
    """Check that systemd found no ordering cycle.

    systemd breaks a cycle by deleting one of its jobs, not always the same one, and continues the boot.
    """
    # match the identifier, not _PID=1: messages from before the journal started come through the kernel log, without it
    journal = trial.root("journalctl --boot --no-pager --output=cat --identifier=systemd")
    if not journal:
        raise Wrong("the boot's journal is empty")
    cycles = [line for line in journal.splitlines() if re.search("ordering cycle|order is cyclic", line)]
    if cycles:
        raise Wrong("; ".join(cycles)[:400])
    return "no ordering cycle in the boot's journal"


def cloud_init_is_done(trial: Trial) -> str:
    """Check that cloud-init ended without an error."""
    status = json.loads(trial.box.ssh("cloud-init status --wait --format json", timeout_s=600, check=False).stdout)
    if status["status"] != "done" or status["errors"]:
        raise Wrong(f"{status['status']}, errors: {status['errors']}")
    return f"done, {status.get('datasource') or status.get('detail')}"


def identity_is_its_own(trial: Trial) -> str:
    """Check that this boot made the machine-id and the ssh host keys, and that the image does not contain them."""
    text = trial.root(
        'sh -c \'date -d "$(uptime -s)" +%s; cat /etc/machine-id; '
        'stat -c "%Y %n" /etc/machine-id /etc/ssh/ssh_host_*_key\''
    ).splitlines()
    booted, machine, times = int(text[0]), text[1], dict(line.split(" ", 1)[::-1] for line in text[2:])
    if len(machine) != 32:
        raise Wrong(f"/etc/machine-id contains {machine!r}")
    # uptime -s is rounded to seconds
    old = [name for name, seconds in times.items() if int(seconds) < booted - 2]
    if old or len(times) < 2:
        raise Wrong(f"older than this boot: {' '.join(old) or 'there are no host keys'}")
    return f"machine-id {machine[:8]}…, {len(times) - 1} host keys, all newer than the boot"


def root_fills_the_disk(trial: Trial) -> str:
    """Check that the root file system has grown to fill the disk."""
    part = trial.user("findmnt -no SOURCE /")
    disk = int(trial.root(f"lsblk -bndo SIZE /dev/$(lsblk -ndo PKNAME {part})"))
    size = int(trial.user("df -B1 --output=size /").splitlines()[-1])
    # the boot partition, file system tables and journal take at most 8 % of the disks that boot a box
    if size < disk * 0.9 - (512 << 20):
        raise Wrong(f"{size >> 20} MiB of a disk of {disk >> 20} MiB")
    return f"{size >> 20} MiB of a disk of {disk >> 20} MiB"


# ---- access


def key_opens_ssh(trial: Trial) -> str:
    """Check that the user can log in from outside with the key of the seed."""
    done = trial.login(address(1), trial.expected.user, "-i", str(trial.box.seed.key))
    if done.returncode:
        raise Wrong(done.stderr.strip())
    return f"{trial.expected.user} logged in from {address(1)}"


def passwords_are_refused(trial: Trial) -> str:
    """Check that sshd offers public key authentication only."""
    methods = "PreferredAuthentications=password,keyboard-interactive"
    done = trial.login(address(2), trial.expected.user, "-o", methods, "-o", "PubkeyAuthentication=no")
    message = done.stderr.strip()
    if done.returncode == 0 or "Permission denied (publickey)." not in message:
        raise Wrong(message or "login succeeded")
    return message


def root_is_refused(trial: Trial) -> str:
    """Check that root cannot log in, not even with the user's key."""
    done = trial.login(address(3), "root", "-i", str(trial.box.seed.key))
    if done.returncode == 0 or "Permission denied" not in done.stderr:
        raise Wrong(done.stderr.strip() or "login succeeded")
    return done.stderr.strip()


def only_named_ports_answer(trial: Trial) -> str:
    """Scan all 65,535 TCP ports from outside while a program in the guest listens on a port that must be blocked."""
    port = 47631
    listener = f"systemd-run --quiet --unit=boot-test-listener python3 -m http.server --bind :: {port}"
    trial.root(listener)
    try:
        # a blocked port is evidence only if a program listens on it
        reach_inside(trial, "127.0.0.1", port)
        ipv4_ports = trial.open_ports(GUEST, "1-65535")
        wanted = sorted(trial.expected.ports)
        if ipv4_ports != wanted:
            raise Wrong(f"open ports: {ipv4_ports}, in the pillar: {wanted}")
        device = json.loads(trial.user("ip -j route get 10.0.2.2"))[0]["dev"]
        links = json.loads(trial.user(f"ip -6 -j address show dev {device} scope link"))
        # ip prints an empty entry for each device that does not match
        local = next(entry["local"] for link in links for entry in link.get("addr_info", ()) if "local" in entry)
        listening = {line.split()[3].rpartition(":")[2] for line in trial.root("ss -tlnH").splitlines()}
        ipv6_ports = trial.open_ports(f"{local}%{BRIDGE}", *sorted(listening))
        if not set(ipv6_ports) <= trial.expected.ports:
            raise Wrong(f"open ports over IPv6: {ipv6_ports}, in the pillar: {wanted}")
    finally:
        trial.box.ssh("sudo -n systemctl stop boot-test-listener", check=False)
    return (
        f"open: {ipv4_ports} of 65535 over IPv4, {ipv6_ports} of {len(listening)} listening over IPv6; "
        f"port {port} listens and is blocked"
    )


def reach_inside(trial: Trial, place: str, port: int) -> None:
    """Wait until a port accepts a connection inside the guest. Raises Wrong after 90 s."""
    connect = f"python3 -c \"import socket; socket.create_connection(('{place}', {port}), 5)\""
    until = time.monotonic() + 90
    while trial.box.ssh(connect, check=False).returncode:
        if time.monotonic() > until:
            raise Wrong(f"{place}:{port} does not answer inside the guest")
        time.sleep(1)


# ---- Docker

TAG = "vault-cube-boot-test"
IMPORT = Path(__file__).with_name("import_image.sh")


def import_image(box: Guest) -> None:
    """Import the container image TAG, made of the guest's own files, into its Docker. Raises VaultCubeError."""
    box.ssh(f"sh -s {TAG}", stdin=IMPORT.read_text(), timeout_s=900)


def docker_runs_a_container(trial: Trial) -> str:
    """Check that the user can run a container, made from the image's own files, without a registry and without root."""
    import_image(trial.box)
    output = trial.user(f"docker run --rm --network none {TAG} /bin/sh -c 'echo $((6 * 7)) from pid $$'")
    if output != "42 from pid 1":
        raise Wrong(output)
    return f"docker run as {trial.expected.user}: {output}"


def published_ports_stay_inside(trial: Trial) -> str:
    """Check that a container's published ports, even those on all addresses, are reachable only from inside the box."""
    serve = "/usr/bin/python3 -m http.server 8000"
    trial.user(
        f"docker run -d --name {TAG} -v /usr:/usr:ro -p 47632:8000 -p 0.0.0.0:47633:8000 {TAG} {serve}", timeout_s=180
    )
    try:
        inner = trial.user(
            f"docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {TAG}"
        )
        reach_inside(trial, "127.0.0.1", 47632)
        reach_inside(trial, "127.0.0.1", 47633)
        reach_inside(trial, inner, 8000)
        published = trial.open_ports(GUEST, "47632", "47633")
        # another machine of the network may also route packets for the container's own address to the box
        process.run([*trial.box.outside, "ip", "route", "replace", f"{inner}/32", "via", GUEST])
        routed = trial.open_ports(inner, "8000")
    finally:
        trial.box.ssh(f"docker rm -f {TAG}; docker rmi -f {TAG}", check=False, timeout_s=180)
    if published or routed:
        raise Wrong(f"reachable from outside: {[*published, *(f'{inner}:{port}' for port in routed)]}")
    return f"127.0.0.1:47632, 127.0.0.1:47633 and {inner}:8000 are reachable from inside only"


# ---- the states


def changes(document: str) -> list[str]:
    """List the states that failed, changed something or would change it.

    document: output of `state.apply --out=json`. Raises Wrong if Salt did not render the states.
    """
    result = json.loads(document)["local"]
    if not isinstance(result, dict):
        raise Wrong(f"Salt could not render the states: {' '.join(map(str, result))[:400]}")
    return [
        f"{state['__id__']}: {state['comment']}"[:200]
        for state in result.values()
        if state["result"] is not True or state["changes"]
    ]


def states_change_nothing(trial: Trial) -> str:
    """Check that `state.apply` changes nothing. That test=True agrees is tested in the tree and by tests/boot."""
    # salt-call's output is checked whatever its exit status is
    done = trial.box.ssh(
        "sudo -n salt-call --local --out=json --log-level=quiet state.apply", timeout_s=1800, check=False
    )
    try:
        changed = changes(done.stdout)
        total = len(json.loads(done.stdout)["local"])
    except (ValueError, KeyError) as err:
        raise Wrong(f"unreadable output of salt-call: {(done.stdout + done.stderr).strip()[-400:]}") from err
    if changed or not total:
        raise Wrong(f"{len(changed)} of {total} states: " + "; ".join(changed[:5]))
    return f"{total} states, no change"


# ---- last, because it locks an address out

LOST_LINES = 2
"""Refused logins that fail2ban may miss before it counts as not banning."""


def fail2ban_bans(trial: Trial) -> str:
    """Check that fail2ban bans an address, and no other, after the pillar's number of failed logins."""
    source, wanted = address(4), trial.expected.failures
    failed, unclear = _fail_until_banned(trial, source, wanted)
    if failed + unclear < wanted:
        raise Wrong(f"banned after {failed} failures, not after {wanted} as in the pillar")
    refused = trial.login(source, trial.expected.user, "-i", str(trial.box.seed.key), "-o", "ConnectTimeout=5")
    if refused.returncode == 0:
        raise Wrong(f"{source} is banned and can still log in")
    other = trial.login(address(5), trial.expected.user, "-i", str(trial.box.seed.key))
    if other.returncode:
        raise Wrong(f"the ban of {source} also locks out {address(5)}: {other.stderr.strip()}")
    return f"{source} banned after {failed} failures: {refused.stderr.strip()}; {address(5)} can still log in"


def _fail_until_banned(trial: Trial, source: str, wanted: int) -> tuple[int, int]:
    """Fail to log in from an address until fail2ban bans it.

    Returns the number of refused logins, and of those that the guest may have counted although it answered too late.
    Raises Wrong if there is no ban.
    """
    failed = unclear = 0
    until, tried = time.monotonic() + 420, 0.0
    while source not in (banned := _banned(trial)):
        now = time.monotonic()
        if now > until:
            seen = trial.root(f"grep -c 'Found {source}' /var/log/fail2ban.log || :").strip()
            raise Wrong(
                f"no ban within 420 s after {failed} refused logins from {source}, of which fail2ban's log has {seen}; "
                f"banned: {banned}"
            )
        # fail2ban reads the journal late, and once it missed a line: up to LOST_LINES more failures are made
        if failed >= wanted and (now - tried < 60 or failed >= wanted + LOST_LINES):
            time.sleep(2)
            continue
        # a login of the user without a key logs one line; one of an unknown user logs two, and fail2ban counts both
        done = trial.login(source, trial.expected.user, "-o", "PubkeyAuthentication=no")
        tried = time.monotonic()
        if "Permission denied" in done.stderr:
            failed += 1
        elif "timed out" in done.stderr:
            # the guest may have counted this login although it answered too late
            unclear += 1
        else:
            # newer versions of sshd delay an address themselves (PerSourcePenalties)
            time.sleep(5)
        if failed == wanted - 1:
            # leave time for a premature ban
            time.sleep(5)
    return failed, unclear


def _banned(trial: Trial) -> list[str]:
    status = trial.root("fail2ban-client status sshd")
    return status.rpartition("Banned IP list:")[2].split()


CHECKS: tuple[Check, ...] = (
    system_is_running,
    no_unit_waits_for_itself,
    cloud_init_is_done,
    identity_is_its_own,
    root_fills_the_disk,
    key_opens_ssh,
    passwords_are_refused,
    root_is_refused,
    only_named_ports_answer,
    docker_runs_a_container,
    published_ports_stay_inside,
    states_change_nothing,
    fail2ban_bans,
)
