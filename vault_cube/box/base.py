"""Checks of layer 1: logins, open ports, enabled units and Docker, and that the image contains no password."""

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
    """Run all checks of the layer."""
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
    """Check that all packages of the pillar are installed, in one query: saltcheck would start Salt for each one."""
    ran = command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted], 30)
    installed = {line.split()[0] for line in ran.stdout.splitlines() if line.endswith(" installed")}
    missing = [name for name in wanted if name.partition(":")[0] not in installed]
    evidence = f"missing: {' '.join(missing)}" if missing else f"all {len(wanted)} are"
    return verdict("packages are installed", not missing, evidence, "base:packages")


def passwords(shadow: str) -> Verdict:
    """Check that no account has a password: the second field of shadow(5) begins with ! or *."""
    fields = [line.split(":") for line in shadow.splitlines()]
    unlocked = [parts[0] for parts in fields if parts[1][:1] not in ("!", "*")]
    return verdict("nobody has a password", not unlocked, " ".join(unlocked) or f"{len(fields)} accounts, all locked")


def sudo() -> Verdict:
    """Check that all sudo rules parse: after a syntax error sudo refuses to work for every user."""
    ran = command(["/usr/sbin/visudo", "-c"], 30)
    return verdict("sudo's rules", ran.returncode == 0, last_line(ran.stderr or ran.stdout))


def sshd(base: dict[str, Any], live: bool) -> Verdict:
    """Check the effective configuration of sshd, from all its files and defaults, as `sshd -T` prints it."""
    if not live:
        Path("/run/sshd").mkdir(exist_ok=True)  # on the tree's own tmpfs; sshd -T requires it
    ran = command([str(SSHD), "-T"], 30)
    if ran.returncode and "no hostkeys" in ran.stderr:
        return not_applicable("sshd lets in keys only", "the box has no host keys yet: the first boot creates them")
    settings = dict(line.split(" ", 1) for line in ran.stdout.splitlines() if " " in line)
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
        "allowgroups": ssh["group"],
        "port": str(ssh["port"]),
        "ciphers": ",".join(ssh["ciphers"]),
        "macs": ",".join(ssh["macs"]),
        "kexalgorithms": ",".join(ssh["key_exchange"]),
        "hostkeyalgorithms": ",".join(ssh["host_key_algorithms"]),
    }
    wrong = [
        f"{key} {settings.get(key, 'missing')}, not {value}"
        for key, value in wanted.items()
        if settings.get(key) != value
    ]
    evidence = "; ".join(wrong) or f"{len(wanted)} settings as in the pillar"
    return verdict(
        "sshd lets in keys only", not wrong, last_line(ran.stderr) if ran.returncode else evidence, "base:ssh"
    )


def docker_settings(docker: dict[str, Any], daemon: Any) -> Verdict:
    """Check that Docker's configuration has the pillar's values, even if other programs write to it."""
    wanted = {
        "ip": docker["publish_address"],
        "live-restore": True,
        "log-opts": {"max-size": f"{docker['log_size_mb']}m", "max-file": str(docker["log_files"])},
    }
    settings = daemon if isinstance(daemon, dict) else {}
    wrong = [f"{key} is {settings.get(key)!r}" for key, value in wanted.items() if settings.get(key) != value]
    return verdict("Docker's settings", not wrong, "; ".join(wrong) or "as in the pillar", "base:docker")


def jail_settings(base: dict[str, Any]) -> Verdict:
    """Check that fail2ban can parse its configuration, and that the ssh jail has the pillar's numbers."""
    ran = command(["fail2ban-client", "-d"], 60)
    settings = dict(re.findall(r"\['set', 'sshd', '(maxretry|findtime|bantime)', '?(\d+)'?\]", ran.stdout))
    numbers = base["fail2ban"]
    wanted = {"maxretry": numbers["failures"], "findtime": numbers["within_s"], "bantime": numbers["ban_s"]}
    good = settings == {key: str(value) for key, value in wanted.items()}
    evidence = ", ".join(f"{key} {value}" for key, value in settings.items())
    return verdict(
        "fail2ban's settings", good, evidence or last_line(ran.stderr) or "there is no ssh jail", "base:fail2ban"
    )


def updates(chosen: dict[str, Any]) -> Verdict:
    """Check apt's effective settings of unattended upgrades: origins, excluded packages, and no reboot."""
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
    return verdict("updates are for security only", not wrong, ", ".join(wrong) or "as in the pillar", "base:updates")


def units(base: dict[str, Any]) -> Verdict:
    """Check that base:units start at boot and base:units_off do not. A static unit does not start by itself."""
    states = {name: command(["systemctl", "is-enabled", name], 30).stdout.strip() for name in base["units"]}
    wrong = [f"{name} is {state or 'missing'}" for name, state in states.items() if state != "enabled"]
    for name in base["units_off"]:
        state = command(["systemctl", "is-enabled", name], 30).stdout.strip()
        if state.startswith("enabled"):
            wrong.append(f"{name} is {state}")
    return verdict("units that are on at boot", not wrong, "; ".join(wrong) or f"{len(states)} are on", "base:units")


def held(package: str) -> Verdict:
    """Check that apt's hold keeps the kernel from being upgraded."""
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
    """Check that ufw is active, denies incoming connections by default, and allows the pillar's ports.

    Ports that the owner has opened with `ufw` are named.
    """
    status = command(["ufw", "status", "verbose"], 30).stdout
    allowed = {int(port) for port in re.findall(r"^(\d+)/tcp(?: \(v6\))?\s+ALLOW IN", status, re.M)}
    good = "Status: active" in status and "deny (incoming), allow (outgoing)" in status and allowed >= set(ports)
    wanted = f"deny in, allow out, ports {sorted(ports)} (base:firewall:allow_tcp)"
    others = sorted(allowed - set(ports))
    evidence = f"ports {sorted(allowed & set(ports))}" + (f", opened by the owner: {others}" if others else "")
    return verdict("the firewall in force", good, f"{evidence}; {' '.join(status.split()[:6])}", wanted)


def jail(numbers: dict[str, Any]) -> Verdict:
    """Check that the ssh jail runs in the fail2ban server and reads the journal."""
    ran = command(["fail2ban-client", "get", "sshd", "maxretry"], 30)
    status = command(["fail2ban-client", "status", "sshd"], 30).stdout
    good = ran.stdout.strip() == str(numbers["failures"]) and "Journal matches" in status
    return verdict("the ssh jail", good, " ".join(status.split())[:200] or last_line(ran.stderr), "base:fail2ban")
