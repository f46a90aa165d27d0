"""Gate of layer 1: who gets in, what answers, what is on, and whether nobody's secret is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vault_cube.box import Place, command, last_line, read_json
from vault_cube.box.initrd import MICROCODE, early_files
from vault_cube.verdicts import Verdict, not_applicable, verdict

SHADOW = Path("/etc/shadow")
SSHD = Path("/usr/sbin/sshd")
BOOT = Path("/boot")
LIVE_CASES = ("the firewall in force", "the ssh jail", "Docker answers", "failed units")


def cases(place: Place) -> Iterator[Verdict]:
    """All cases of the layer."""
    base = place.pillar["base"]
    yield packages(base["packages"])
    yield passwords(SHADOW.read_text())
    yield sudo()
    yield sshd(base, place.live)
    yield docker_settings(base["docker"], read_json(Path("/etc/docker/daemon.json")))
    yield jail_settings(base)
    yield updates(base["updates"])
    yield units(base)
    yield held(base["kernel"]["package"])
    yield microcode(base["packages"], BOOT)
    if not place.live:
        for case in LIVE_CASES:
            yield not_applicable(case, "needs a running system")
        return
    yield firewall(base["firewall"]["allow_tcp"])
    yield jail(base["fail2ban"])
    ran = command(["docker", "info", "--format", "{{.ServerVersion}} live-restore={{.LiveRestoreEnabled}}"], 60)
    yield verdict("Docker answers", ran.stdout.strip().endswith("=true"), last_line(ran.stdout + ran.stderr))
    failed = command(["systemctl", "list-units", "--failed", "--plain", "--no-legend"], 30).stdout.split("\n")
    names = [line.split()[0] for line in failed if line.strip()]
    yield verdict("failed units", not names, " ".join(names) or "none")


def packages(wanted: Sequence[str]) -> Verdict:
    """Every package of the pillar is installed. One question for all: saltcheck starts Salt anew for each case."""
    ran = command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted], 30)
    have = {line.split()[0] for line in ran.stdout.splitlines() if line.endswith(" installed")}
    missing = [name for name in wanted if name.partition(":")[0] not in have]
    said = f"missing: {' '.join(missing)}" if missing else f"all {len(wanted)} are"
    return verdict("packages are installed", not missing, said, "base:packages")


def passwords(shadow: str) -> Verdict:
    """No account has a password: the second field of shadow(5) begins with ! or *."""
    fields = [line.split(":") for line in shadow.splitlines()]
    open_ones = [parts[0] for parts in fields if parts[1][:1] not in ("!", "*")]
    return verdict("nobody has a password", not open_ones, " ".join(open_ones) or f"{len(fields)} accounts, all locked")


def sudo() -> Verdict:
    """Every sudo rule parses; one that does not ends sudo for everybody."""
    ran = command(["/usr/sbin/visudo", "-c"], 30)
    return verdict("sudo's rules", ran.returncode == 0, last_line(ran.stderr or ran.stdout))


def sshd(base: dict[str, Any], live: bool) -> Verdict:
    """What sshd does after all its files and defaults, as `sshd -T` tells."""
    if not live:
        Path("/run/sshd").mkdir(exist_ok=True)  # below a tree's own tmpfs; sshd -T asks for it
    ran = command([str(SSHD), "-T"], 30)
    if ran.returncode and "no hostkeys" in ran.stderr:
        return not_applicable("sshd lets in keys only", "the box has no host keys yet: they are made at first boot")
    said = dict(line.split(" ", 1) for line in ran.stdout.splitlines() if " " in line)
    ssh = base["ssh"]
    wanted = {
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitrootlogin": "no",
        "permitemptypasswords": "no",
        "authenticationmethods": "publickey",
        "x11forwarding": "no",
        "allowagentforwarding": "no",
        "allowtcpforwarding": "no",
        "allowstreamlocalforwarding": "no",
        "maxauthtries": str(ssh["max_auth_tries"]),
        "port": str(ssh["port"]),
        "ciphers": ",".join(ssh["ciphers"]),
        "macs": ",".join(ssh["macs"]),
        "kexalgorithms": ",".join(ssh["key_exchange"]),
        "hostkeyalgorithms": ",".join(ssh["host_key_algorithms"]),
    }
    wrong = [
        f"{key} {said.get(key, 'missing')}, not {value}" for key, value in wanted.items() if said.get(key) != value
    ]
    # sshd -T prints a line a user
    allowed = {line.split()[1] for line in ran.stdout.splitlines() if line.startswith("allowusers ")}
    if allowed != set(base["users"]):
        wrong.append(f"allowusers {' '.join(sorted(allowed)) or 'everybody'}")
    evidence = "; ".join(wrong) or f"{len(wanted) + 1} settings as chosen"
    return verdict(
        "sshd lets in keys only", not wrong, last_line(ran.stderr) if ran.returncode else evidence, "base:ssh"
    )


def docker_settings(docker: dict[str, Any], daemon: Any) -> Verdict:
    """Docker's configuration has the pillar's values, whoever else writes to it."""
    wanted = {
        "ip": docker["publish_address"],
        "live-restore": True,
        "log-opts": {"max-size": f"{docker['log_size_mb']}m", "max-file": str(docker["log_files"])},
    }
    have = daemon if isinstance(daemon, dict) else {}
    wrong = [f"{key} is {have.get(key)!r}" for key, value in wanted.items() if have.get(key) != value]
    return verdict("Docker's settings", not wrong, "; ".join(wrong) or "as chosen", "base:docker")


def jail_settings(base: dict[str, Any]) -> Verdict:
    """fail2ban reads its files without complaint, and the ssh jail is among them with the pillar's numbers."""
    ran = command(["fail2ban-client", "-d"], 60)
    found = dict(re.findall(r"\['set', 'sshd', '(maxretry|findtime|bantime)', '?(\d+)'?\]", ran.stdout))
    numbers = base["fail2ban"]
    wanted = {"maxretry": numbers["failures"], "findtime": numbers["within_s"], "bantime": numbers["ban_s"]}
    good = found == {key: str(value) for key, value in wanted.items()}
    said = ", ".join(f"{key} {value}" for key, value in found.items())
    return verdict(
        "fail2ban's settings", good, said or last_line(ran.stderr) or "there is no ssh jail", "base:fail2ban"
    )


def updates(chosen: dict[str, Any]) -> Verdict:
    """What apt tells of unattended upgrades: origins, packages left alone, no reboot."""
    values: dict[str, list[str]] = {}
    for line in command(["apt-config", "dump", "Unattended-Upgrade"], 30).stdout.splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.removeprefix("Unattended-Upgrade::").rstrip(":"), []).append(value.strip('";'))
    wrong = [
        key
        for key, wanted in (
            ("Origins-Pattern", chosen["origins"]),
            ("Allowed-Origins", []),
            ("Package-Blacklist", chosen["never"]),
            ("Automatic-Reboot", ["false"]),
        )
        if [value for value in values.get(key, []) if value] != list(wanted)
    ]
    return verdict("updates are for security only", not wrong, ", ".join(wrong) or "as chosen", "base:updates")


def units(base: dict[str, Any]) -> Verdict:
    """Check that the pillar's units start at boot, and the others do not. A static unit does not start by itself."""
    states = {name: command(["systemctl", "is-enabled", name], 30).stdout.strip() for name in base["units"]}
    wrong = [f"{name} is {state or 'missing'}" for name, state in states.items() if state != "enabled"]
    for name in base["units_off"]:
        state = command(["systemctl", "is-enabled", name], 30).stdout.strip()
        if state.startswith("enabled"):
            wrong.append(f"{name} is {state}")
    return verdict("units that are on at boot", not wrong, "; ".join(wrong) or f"{len(states)} are on", "base:units")


def held(package: str) -> Verdict:
    """apt leaves the kernel alone."""
    names = command(["apt-mark", "showhold"], 30).stdout.split()
    return verdict("the kernel is held", package in names, " ".join(names) or "nothing is held", "base:kernel:package")


def microcode(packages: Sequence[str], boot: Path) -> Verdict:
    """Check that every initial RAM disk has the microcode of all vendors, whatever processor the builder has.

    packages: the pillar's base:packages. boot: the folder with the initial RAM disks.
    """
    case = "microcode for any processor"
    wanted = {MICROCODE[name] for name in packages if name in MICROCODE}
    if not wanted:
        return not_applicable(case, "base:packages names no microcode")
    disks = sorted(boot.glob("initrd.img-*"))
    missing = [f"{disk.name} lacks {name}" for disk in disks for name in sorted(wanted - early_files(disk))]
    evidence = "; ".join(missing) or f"{len(disks)} initial RAM disk(s)"
    return verdict(case, bool(disks) and not missing, evidence, "base:packages")


def firewall(ports: list[int]) -> Verdict:
    """ufw is active, denies what comes in, and allows the pillar's ports."""
    said = command(["ufw", "status", "verbose"], 30).stdout
    allowed = {int(port) for port in re.findall(r"^(\d+)/tcp(?: \(v6\))?\s+ALLOW IN", said, re.M)}
    good = "Status: active" in said and "deny (incoming), allow (outgoing)" in said and allowed == set(ports)
    wanted = f"deny in, allow out, ports {sorted(ports)} (base:firewall:allow_tcp)"
    return verdict("the firewall in force", good, f"ports {sorted(allowed)}; {' '.join(said.split()[:6])}", wanted)


def jail(numbers: dict[str, Any]) -> Verdict:
    """The ssh jail is live: the server has it, and it watches the journal."""
    ran = command(["fail2ban-client", "get", "sshd", "maxretry"], 30)
    status = command(["fail2ban-client", "status", "sshd"], 30).stdout
    good = ran.stdout.strip() == str(numbers["failures"]) and "Journal matches" in status
    return verdict("the ssh jail", good, " ".join(status.split())[:200] or last_line(ran.stderr), "base:fail2ban")
