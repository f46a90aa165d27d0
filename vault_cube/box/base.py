"""Checks of layer 1: logins, open ports, enabled units and Docker, and that the image contains no password."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vault_cube.box import Place, read_json
from vault_cube.box.initrd import MICROCODE, early_files
from vault_cube.process import command, last_line
from vault_cube.verdicts import Check, Verdict, not_applicable, verdict

SHADOW = Path("/etc/shadow")
SSHD = Path("/usr/sbin/sshd")
BOOT = Path("/boot")
DAEMON = Path("/etc/docker/daemon.json")


def packages_are_installed(place: Place) -> Verdict:
    """Check that all packages of the pillar are installed, in one query: saltcheck would start Salt for each one."""
    wanted = place.settings.base.packages
    ran = command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted], 30)
    installed = {line.split()[0] for line in ran.stdout.splitlines() if line.endswith(" installed")}
    missing = [name for name in wanted if name.partition(":")[0] not in installed]
    evidence = f"missing: {' '.join(missing)}" if missing else f"all {len(wanted)} are"
    return verdict(not missing, evidence, "base:packages")


def nobody_has_a_password(place: Place, shadow: Path = SHADOW) -> Verdict:
    """Check that no account has a password: the second field of shadow(5) begins with ! or *."""
    fields = [line.split(":") for line in shadow.read_text().splitlines()]
    unlocked = [parts[0] for parts in fields if parts[1][:1] not in ("!", "*")]
    return verdict(not unlocked, " ".join(unlocked) or f"{len(fields)} accounts, all locked")


def sudo_rules_parse(place: Place) -> Verdict:
    """Check that all sudo rules parse: after a syntax error sudo refuses to work for every user."""
    ran = command(["/usr/sbin/visudo", "-c"], 30)
    return verdict(ran.returncode == 0, last_line(ran.stderr or ran.stdout))


def sshd_lets_in_keys_only(place: Place) -> Verdict:
    """Check the effective configuration of sshd, from all its files and defaults, as `sshd -T` prints it."""
    base = place.settings.base
    if not place.live:
        Path("/run/sshd").mkdir(exist_ok=True)  # on the tree's own tmpfs; sshd -T requires it
    ran = command([str(SSHD), "-T"], 30)
    if ran.returncode and "no hostkeys" in ran.stderr:
        return not_applicable("the box has no host keys yet: the first boot creates them")
    settings = dict(line.split(" ", 1) for line in ran.stdout.splitlines() if " " in line)
    ssh = base.ssh
    wanted = {
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitrootlogin": "no",
        "permitemptypasswords": "no",
        "authenticationmethods": "publickey",
        "x11forwarding": "no",
        "allowagentforwarding": "yes" if ssh.forward_agent else "no",
        "allowtcpforwarding": "local" if ssh.forward_ports else "no",
        "allowstreamlocalforwarding": "local" if ssh.forward_sockets else "no",
        "maxauthtries": str(ssh.max_auth_tries),
        "allowgroups": ssh.group,
        "port": str(ssh.port),
        "ciphers": ",".join(ssh.ciphers),
        "macs": ",".join(ssh.macs),
        "kexalgorithms": ",".join(ssh.key_exchange),
        "hostkeyalgorithms": ",".join(ssh.host_key_algorithms),
        "disableforwarding": "no" if ssh.forward_agent or ssh.forward_ports or ssh.forward_sockets else "yes",
        **{keyword.lower(): value for keyword, value in ssh.settings.items() if value is not None},
    }
    if ssh.forward_ports:
        hosts = ("127.0.0.1", "localhost", "[::1]")
        wanted["permitopen"] = " ".join(f"{host}:{port}" for port in ssh.forward_ports for host in hosts)
    wrong = [
        f"{key} {settings.get(key, 'missing')}, not {value}"
        for key, value in wanted.items()
        if settings.get(key, "").lower() != value.lower()
    ]
    evidence = "; ".join(wrong) or f"{len(wanted)} settings as in the pillar"
    return verdict(not wrong, last_line(ran.stderr) if ran.returncode else evidence, "base:ssh")


def docker_settings(place: Place, daemon: Path = DAEMON) -> Verdict:
    """Check that Docker's configuration has the pillar's values, even if other programs write to it."""
    docker = place.settings.base.docker
    wanted = {
        "ip": docker.publish_address,
        "live-restore": True,
        "log-opts": {"max-size": f"{docker.log_size_mb}m", "max-file": str(docker.log_files)},
        "icc": docker.icc,
        "userland-proxy": docker.userland_proxy,
    }
    document: Any = read_json(daemon)
    settings = document if isinstance(document, dict) else {}
    wrong = [f"{key} is {settings.get(key)!r}" for key, value in wanted.items() if settings.get(key) != value]
    return verdict(not wrong, "; ".join(wrong) or "as in the pillar", "base:docker")


def fail2ban_settings(place: Place) -> Verdict:
    """Check that fail2ban can parse its configuration, and that the ssh jail has the pillar's numbers."""
    ran = command(["fail2ban-client", "-d"], 60)
    settings = dict(re.findall(r"\['set', 'sshd', '(maxretry|findtime|bantime)', '?(\d+)'?\]", ran.stdout))
    numbers = place.settings.base.fail2ban
    wanted = {"maxretry": numbers.failures, "findtime": numbers.within_s, "bantime": numbers.ban_s}
    good = settings == {key: str(value) for key, value in wanted.items()}
    evidence = ", ".join(f"{key} {value}" for key, value in settings.items())
    return verdict(good, evidence or last_line(ran.stderr) or "there is no ssh jail", "base:fail2ban")


def updates_are_for_security_only(place: Place) -> Verdict:
    """Check apt's effective settings of unattended upgrades: origins, excluded packages, and no reboot."""
    chosen = place.settings.base.updates
    values: dict[str, list[str]] = {}
    for line in command(["apt-config", "dump", "Unattended-Upgrade"], 30).stdout.splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.removeprefix("Unattended-Upgrade::").rstrip(":"), []).append(value.strip('";'))
    wrong = [
        key
        for key, wanted in (
            ("Origins-Pattern", chosen.origins),
            ("Allowed-Origins", []),
            ("Package-Blacklist", chosen.never),
            ("Automatic-Reboot", ["false"]),
        )
        if [value for value in values.get(key, []) if value] != list(wanted)
    ]
    return verdict(not wrong, ", ".join(wrong) or "as in the pillar", "base:updates")


def units_start_at_boot(place: Place) -> Verdict:
    """Check that base:units start at boot and base:units_off do not. A static unit does not start by itself."""
    base = place.settings.base
    states = {name: command(["systemctl", "is-enabled", name], 30).stdout.strip() for name in base.units}
    wrong = [f"{name} is {state or 'missing'}" for name, state in states.items() if state != "enabled"]
    for name in base.units_off:
        state = command(["systemctl", "is-enabled", name], 30).stdout.strip()
        if state.startswith("enabled"):
            wrong.append(f"{name} is {state}")
    return verdict(not wrong, "; ".join(wrong) or f"{len(states)} are on", "base:units")


def the_kernel_is_held(place: Place) -> Verdict:
    """Check that apt's hold keeps the kernel from being upgraded."""
    names = command(["apt-mark", "showhold"], 30).stdout.split()
    good = place.settings.base.kernel.package in names
    return verdict(good, " ".join(names) or "nothing is held", "base:kernel:package")


def microcode_for_any_processor(place: Place, boot: Path = BOOT) -> Verdict:
    """Check that every initial RAM disk has the microcode of all vendors, whatever processor the builder has.

    boot: the folder with the initial RAM disks.
    """
    wanted = {MICROCODE[name] for name in place.settings.base.packages if name in MICROCODE}
    if not wanted:
        return not_applicable("base:packages names no microcode")
    disks = sorted(boot.glob("initrd.img-*"))
    missing = [f"{disk.name} lacks {name}" for disk in disks for name in sorted(wanted - early_files(disk))]
    evidence = "; ".join(missing) or f"{len(disks)} initial RAM disk(s)"
    return verdict(bool(disks) and not missing, evidence, "base:packages")


def the_firewall_in_force(place: Place) -> Verdict:
    """Check that ufw is active, denies incoming connections by default, and allows the pillar's ports.

    Ports that the owner has opened with `ufw` are named.
    """
    place.require_running_system()
    firewall = place.settings.base.firewall
    status = command(["ufw", "status", "verbose"], 30).stdout

    def allowed(direction: str) -> set[int]:
        return {int(port) for port in re.findall(rf"^(\d+)/tcp(?: \(v6\))?\s+ALLOW {direction}", status, re.M)}

    ports, wanted = allowed("IN"), set(firewall.allow_tcp)
    routes, wanted_routes = allowed("FWD"), set(firewall.container_tcp)
    closed = "Status: active" in status and "deny (incoming), allow (outgoing)" in status
    evidence = f"ports {sorted(ports & wanted)}"
    if routes or wanted_routes:
        evidence += f", of containers {sorted(routes & wanted_routes)}"
    if others := sorted((ports - wanted) | (routes - wanted_routes)):
        evidence += f", opened by the owner: {others}"
    threshold = f"deny in, allow out, ports {sorted(wanted)} (base:firewall:allow_tcp)"
    if wanted_routes:
        threshold += f", of containers {sorted(wanted_routes)} (base:firewall:container_tcp)"
    good = closed and ports >= wanted and routes >= wanted_routes
    policy = re.findall(r"^(?:Status|Default): .+", status, re.M)
    return verdict(good, "; ".join([evidence, *policy]), threshold)


def the_ssh_jail(place: Place) -> Verdict:
    """Check that the ssh jail runs in the fail2ban server and reads the journal."""
    place.require_running_system()
    ran = command(["fail2ban-client", "get", "sshd", "maxretry"], 30)
    status = command(["fail2ban-client", "status", "sshd"], 30).stdout
    good = ran.stdout.strip() == str(place.settings.base.fail2ban.failures) and "Journal matches" in status
    counts = [": ".join(pair) for pair in re.findall(r"((?:Currently|Total) \w+):\s+(\d+)", status)]
    reads = "reads the journal" if "Journal matches" in status else "does not read the journal"
    evidence = f"{reads}; {', '.join(counts)}" if status.strip() else last_line(ran.stderr)
    return verdict(good, evidence, "base:fail2ban")


def docker_answers(place: Place) -> Verdict:
    """Check that Docker's server answers, and keeps containers running while it restarts."""
    place.require_running_system()
    ran = command(["docker", "info", "--format", "{{.ServerVersion}} live-restore={{.LiveRestoreEnabled}}"], 60)
    return verdict(ran.stdout.strip().endswith("=true"), last_line(ran.stdout + ran.stderr))


def no_unit_failed(place: Place) -> Verdict:
    """Check that systemd lists no failed unit."""
    place.require_running_system()
    lines = command(["systemctl", "list-units", "--failed", "--plain", "--no-legend"], 30).stdout.split("\n")
    names = [line.split()[0] for line in lines if line.strip()]
    return verdict(not names, " ".join(names) or "none")


CHECKS: tuple[Check, ...] = (
    packages_are_installed,
    nobody_has_a_password,
    sudo_rules_parse,
    sshd_lets_in_keys_only,
    docker_settings,
    fail2ban_settings,
    updates_are_for_security_only,
    units_start_at_boot,
    the_kernel_is_held,
    microcode_for_any_processor,
    the_firewall_in_force,
    the_ssh_jail,
    docker_answers,
    no_unit_failed,
)
