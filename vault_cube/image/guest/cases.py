"""The cases of the boot test. Each is one function: it returns its evidence, or raises `Wrong` with what it found.

They are asked in the order of CASES; what locks an address out comes last.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import port_scan
from vault_cube.image.guest.machine import OUTSIDE, Guest
from vault_cube.image.guest.qemu import BRIDGE, GUEST
from vault_cube.settings import Settings


@dataclass(frozen=True)
class Expected:
    """What the pillar says of the box, as far as it is seen from outside."""

    user: str
    """the one user who may log in; sudo and docker are his without a password"""
    ports: frozenset[int]
    """TCP ports that answer; ssh's is the first thing that is looked for"""
    ssh_port: int
    failures: int
    """failed logins after which fail2ban bans the address"""

    @classmethod
    def of(cls, settings: Settings) -> Expected:
        """What a target's pillar says."""
        base = settings.base
        able = [name for name, account in base.users.items() if {"sudo", "docker"} <= set(account.groups)]
        if not able:
            raise VaultCubeError(
                "pillar: base:users: nobody is in both sudo and docker: the boot test needs one who is"
            )
        user = able[0]
        return cls(user, frozenset(base.firewall.allow_tcp), base.ssh.port, base.fail2ban.failures)


class Wrong(Exception):
    """The guest is not what it should be; says what was found."""


@dataclass(frozen=True)
class Trial:
    """What a case is given."""

    box: Guest
    expected: Expected

    def root(self, remote: str, timeout_s: float = 120) -> str:
        """What a command prints in the guest, run as root."""
        return self.box.ssh(f"sudo -n {remote}", timeout_s=timeout_s).stdout.strip()

    def user(self, remote: str, timeout_s: float = 120) -> str:
        """What a command prints in the guest, run as the user."""
        return self.box.ssh(remote, timeout_s=timeout_s).stdout.strip()

    def login(self, source: str, user: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Try to log in at the guest's own address from one of the outside addresses; runs `true`."""
        line = [
            "ssh",
            *("-F", "none", "-b", source, "-p", str(self.expected.ssh_port), "-o", "ConnectTimeout=15"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", *options),
            *(f"{user}@{GUEST}", "true"),
        ]
        return subprocess.run(
            [*self.box.outside, *line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def open_ports(self, address: str, *ports: str) -> list[int]:
        """The ports of an address that answer to somebody on the guest's network."""
        done = subprocess.run(
            [*self.box.outside, sys.executable, port_scan.__file__, address, *ports],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise Wrong(f"the scan of {address} did not run: {done.stderr.strip()[-200:]}")
        found: list[int] = json.loads(done.stdout)
        return found


def address(index: int) -> str:
    """One of the addresses outside; a ban of one leaves the others alone."""
    head, _, last = OUTSIDE.rpartition(".")
    return f"{head}.{int(last) + index}"


# ---- what was made at first boot


def system_is_running(trial: Trial) -> str:
    """systemd says `running`: all is started and nothing failed."""
    said = trial.box.ssh("systemctl is-system-running --wait", timeout_s=600, check=False).stdout.strip()
    failed = trial.user("systemctl list-units --failed --plain --no-legend")
    if said != "running" or failed:
        raise Wrong(f"{said}; failed units: {' '.join(line.split()[0] for line in failed.splitlines()) or 'none'}")
    return "running, no failed unit"


def no_unit_waits_for_itself(trial: Trial) -> str:
    """systemd found no ordering cycle: to break one it deletes a job, not always the same, and the boot goes on."""
    # by identifier: what systemd says before the journal runs comes by way of the kernel's log, without a _PID
    journal = trial.root("journalctl --boot --no-pager --output=cat --identifier=systemd")
    if not journal:
        raise Wrong("the boot's journal is empty")
    cycles = [line for line in journal.splitlines() if re.search("ordering cycle|order is cyclic", line)]
    if cycles:
        raise Wrong("; ".join(cycles)[:400])
    return "no ordering cycle in the boot's journal"


def cloud_init_is_done(trial: Trial) -> str:
    """cloud-init ended without an error."""
    status = json.loads(trial.box.ssh("cloud-init status --wait --format json", timeout_s=600, check=False).stdout)
    if status["status"] != "done" or status["errors"]:
        raise Wrong(f"{status['status']}, errors: {status['errors']}")
    return f"done, {status.get('datasource') or status.get('detail')}"


def identity_is_its_own(trial: Trial) -> str:
    """machine-id and ssh host keys were made by this boot, not shipped."""
    text = trial.root(
        'sh -c \'date -d "$(uptime -s)" +%s; cat /etc/machine-id; '
        'stat -c "%Y %n" /etc/machine-id /etc/ssh/ssh_host_*_key\''
    ).splitlines()
    booted, machine, made = int(text[0]), text[1], dict(line.split(" ", 1)[::-1] for line in text[2:])
    if len(machine) != 32:
        raise Wrong(f"/etc/machine-id holds {machine!r}")
    # uptime -s is rounded to seconds
    old = [name for name, seconds in made.items() if int(seconds) < booted - 2]
    if old or len(made) < 2:
        raise Wrong(f"older than this boot: {' '.join(old) or 'there are no host keys'}")
    return f"machine-id {machine[:8]}…, {len(made) - 1} host keys, all younger than the boot"


def root_fills_the_disk(trial: Trial) -> str:
    """The root file system grew into the whole disk."""
    part = trial.user("findmnt -no SOURCE /")
    disk = int(trial.root(f"lsblk -bndo SIZE /dev/$(lsblk -ndo PKNAME {part})"))
    size = int(trial.user("df -B1 --output=size /").splitlines()[-1])
    # boot partition, file system tables and journal take their share: at most 8 % of the disks that boot a box
    if size < disk * 0.9 - (512 << 20):
        raise Wrong(f"{size >> 20} MiB of a disk of {disk >> 20} MiB")
    return f"{size >> 20} MiB of a disk of {disk >> 20} MiB"


# ---- who gets in


def key_opens_ssh(trial: Trial) -> str:
    """The key that came with the seed opens the user's account, from outside."""
    done = trial.login(address(1), trial.expected.user, "-i", str(trial.box.seed.key))
    if done.returncode:
        raise Wrong(done.stderr.strip())
    return f"{trial.expected.user} from {address(1)}: in"


def passwords_are_refused(trial: Trial) -> str:
    """Nothing but a key is even offered."""
    methods = "PreferredAuthentications=password,keyboard-interactive"
    done = trial.login(address(2), trial.expected.user, "-o", methods, "-o", "PubkeyAuthentication=no")
    said = done.stderr.strip()
    if done.returncode == 0 or "Permission denied (publickey)." not in said:
        raise Wrong(said or "let in")
    return said


def root_is_refused(trial: Trial) -> str:
    """root does not get in, not even with the user's key."""
    done = trial.login(address(3), "root", "-i", str(trial.box.seed.key))
    if done.returncode == 0 or "Permission denied" not in done.stderr:
        raise Wrong(done.stderr.strip() or "let in")
    return done.stderr.strip()


def only_named_ports_answer(trial: Trial) -> str:
    """All 65,535 TCP ports from outside, while something listens in the guest that the firewall has to hide."""
    port = 47631
    listener = f"systemd-run --quiet --unit=boot-test-listener python3 -m http.server --bind :: {port}"
    trial.root(listener)
    try:
        # it does listen, or hiding it proves nothing
        reach_inside(trial, "127.0.0.1", port)
        found = trial.open_ports(GUEST, "1-65535")
        wanted = sorted(trial.expected.ports)
        if found != wanted:
            raise Wrong(f"{found} answer, the pillar names {wanted}")
        device = json.loads(trial.user("ip -j route get 10.0.2.2"))[0]["dev"]
        links = json.loads(trial.user(f"ip -6 -j address show dev {device} scope link"))
        # ip prints an empty entry for each device that it leaves out
        local = next(entry["local"] for link in links for entry in link.get("addr_info", ()) if "local" in entry)
        listening = {line.split()[3].rpartition(":")[2] for line in trial.root("ss -tlnH").splitlines()}
        six = trial.open_ports(f"{local}%{BRIDGE}", *sorted(listening))
        if not set(six) <= trial.expected.ports:
            raise Wrong(f"over IPv6 {six} answer, the pillar names {wanted}")
    finally:
        trial.box.ssh("sudo -n systemctl stop boot-test-listener", check=False)
    return f"{found} of 65535 over IPv4, {six} of {len(listening)} that listen over IPv6; port {port} listens unseen"


def reach_inside(trial: Trial, place: str, port: int) -> None:
    """Wait until a port answers inside the guest. Raises Wrong."""
    connect = f"python3 -c \"import socket; socket.create_connection(('{place}', {port}), 5)\""
    until = time.monotonic() + 90
    while trial.box.ssh(connect, check=False).returncode:
        if time.monotonic() > until:
            raise Wrong(f"{place}:{port} does not answer inside the guest")
        time.sleep(1)


# ---- Docker

TAG = "vault-cube-boot-test"
IMPORT = f"""set -e
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
for f in /bin/sh /bin/cat $(ldd /bin/sh /bin/cat | grep -o '/[^ :]*' | sort -u); do
  mkdir -p "$d$(dirname "$f")"
  cp -L "$f" "$d$f"
done
mkdir -p "$d/usr" "$d/etc"
tar -C "$d" -c . | docker import - {TAG} >/dev/null
"""


def docker_runs_a_container(trial: Trial) -> str:
    """The user runs a container that was made of the image's own files, with no registry and no root."""
    trial.user(IMPORT)
    said = trial.user(f"docker run --rm --network none {TAG} /bin/sh -c 'echo $((6 * 7)) from pid $$'")
    if said != "42 from pid 1":
        raise Wrong(said)
    return f"docker run as {trial.expected.user}: {said}"


def published_ports_stay_inside(trial: Trial) -> str:
    """What a container publishes, even on all addresses, answers inside the box and not outside."""
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
        found = trial.open_ports(GUEST, "47632", "47633")
        # a neighbour may also send packets for the container's own address to the box
        subprocess.run([*trial.box.outside, "ip", "route", "replace", f"{inner}/32", "via", GUEST], check=True)
        routed = trial.open_ports(inner, "8000")
    finally:
        trial.box.ssh(f"docker rm -f {TAG}; docker rmi -f {TAG}", check=False, timeout_s=180)
    if found or routed:
        raise Wrong(f"from outside these answer: {[*found, *(f'{inner}:{port}' for port in routed)]}")
    return f"127.0.0.1:47632, 127.0.0.1:47633 and {inner}:8000 answer inside, none of them outside"


# ---- the states


def changes(document: str) -> list[str]:
    """The states of a `state.apply --out=json` that changed something, would change it, or failed."""
    result = json.loads(document)["local"]
    if not isinstance(result, dict):
        raise Wrong(f"Salt did not render: {' '.join(map(str, result))[:400]}")
    return [
        f"{state['__id__']}: {state['comment']}"[:200]
        for state in result.values()
        if state["result"] is not True or state["changes"]
    ]


def states_find_no_drift(trial: Trial) -> str:
    """`state.apply test=True` has nothing to do on the booted box."""
    return _apply(trial, "test=True")


def states_change_nothing(trial: Trial) -> str:
    """A real `state.apply` changes nothing, either."""
    return _apply(trial, "")


def _apply(trial: Trial, options: str) -> str:
    # salt-call's exit status is part of the answer, not of the transport
    done = trial.box.ssh(
        f"sudo -n salt-call --local --out=json --log-level=quiet state.apply {options}", timeout_s=1800, check=False
    )
    try:
        changed = changes(done.stdout)
        total = len(json.loads(done.stdout)["local"])
    except (ValueError, KeyError):
        raise Wrong(f"salt-call said: {(done.stdout + done.stderr).strip()[-400:]}") from None
    if changed or not total:
        raise Wrong(f"{len(changed)} of {total} states: " + "; ".join(changed[:5]))
    return f"{total} states, no change"


# ---- last, for it locks an address out


def fail2ban_bans(trial: Trial) -> str:
    """The jail lets an address fail as often as the pillar says, then refuses it, and only it."""
    source, wanted = address(4), trial.expected.failures
    failed = unclear = 0
    until = time.monotonic() + 420
    while source not in (banned := _banned(trial)):
        if time.monotonic() > until:
            raise Wrong(f"{failed} refused logins from {source}, and no ban within 420 s; banned: {banned}")
        if failed >= wanted:
            time.sleep(2)
            continue
        # the user without a key is one line in the journal; a name that nobody has is two, and counts twice
        done = trial.login(source, trial.expected.user, "-o", "PubkeyAuthentication=no")
        if "Permission denied" in done.stderr:
            failed += 1
        elif "timed out" in done.stderr:
            # a guest that is slow to answer may have counted it
            unclear += 1
        else:
            # newer sshd makes an address wait by itself (PerSourcePenalties)
            time.sleep(5)
        if failed == wanted - 1:
            # time for a ban that comes too early
            time.sleep(5)
    if failed + unclear < wanted:
        raise Wrong(f"banned after {failed} failures, the pillar says {wanted}; last: {done.stderr.strip()}")
    refused = trial.login(source, trial.expected.user, "-i", str(trial.box.seed.key), "-o", "ConnectTimeout=5")
    if refused.returncode == 0:
        raise Wrong(f"{source} is on the list of the banned and still gets in")
    other = trial.login(address(5), trial.expected.user, "-i", str(trial.box.seed.key))
    if other.returncode:
        raise Wrong(f"the ban of {source} also locks {address(5)} out: {other.stderr.strip()}")
    return f"{source} banned after {failed} failures: {refused.stderr.strip()}; {address(5)} still gets in"


def _banned(trial: Trial) -> list[str]:
    status = trial.root("fail2ban-client status sshd")
    return status.rpartition("Banned IP list:")[2].split()


CASES: tuple[Callable[[Trial], str], ...] = (
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
    states_find_no_drift,
    states_change_nothing,
    fail2ban_bans,
)
