"""Compare the running system with the image and with its own configuration files.

Each check is a generator of `Trait`. A check that cannot decide yields one that is not `certain`, with the reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vault_cube.drift import boot_file
from vault_cube.drift.manifest import Manifest
from vault_cube.drift.programs import output
from vault_cube.drift.reading import text

DAY = 86400
SET_CLOCK = (
    "sudo systemctl stop systemd-timesyncd && sudo rm -f /var/lib/systemd/timesync/clock && "
    "sudo timedatectl set-time 'YYYY-MM-DD hh:mm:ss' && sudo systemctl start systemd-timesyncd"
)
"""Command that sets the clock. While timesyncd runs, timedatectl refuses; with its file of the last time, it would set
a clock that was ahead forward again."""
EPHEMERAL = 32768
"""First port that Linux gives to programs that ask for any port (ip_local_port_range)."""
OTHER_CHAINS = re.compile(r"-j (ufw6?-|DOCKER|f2b-)\S*")
"""Jumps in the built-in chains that ufw, Docker and fail2ban make."""


@dataclass(frozen=True)
class Trait:
    """A difference of the running system."""

    what: str
    change: str
    certain: bool = True
    """False: it cannot be judged, and `change` is the reason."""
    todo: str = ""


@dataclass(frozen=True)
class System:
    """The running system: its image, the root of its files, and the time."""

    image: Manifest
    root: Path = Path("/")
    now: float = field(default_factory=time.time)

    def text(self, path: str) -> str | None:
        """Return the content of a file, None if it cannot be read."""
        try:
            return text(self.root / path)
        except OSError:
            return None

    def lines(self, path: str) -> list[str]:
        """Return the lines of a file, none if it cannot be read."""
        return (self.text(path) or "").splitlines()

    def run(self, command: Sequence[str]) -> str | None:
        """Run a program. Returns its output, None if it is missing, fails or takes too long."""
        printed = output(command)
        return None if printed is None else printed.decode(errors="replace")


def sysctl(system: System) -> Iterator[Trait]:
    """Compare the kernel's settings with the files that set them, except those for all network interfaces (`*`).

    If ufw and sysctl.d set one key, both values are accepted, because their order depends on which started last.
    """
    for key, values in configured(system).items():
        path = key if "/" in key.partition(".")[0] else key.replace(".", "/")
        value = system.text(f"proc/sys/{path}")
        if value is not None and " ".join(value.split()) not in values:
            wanted = " or ".join(sorted(values))
            yield Trait(f"sysctl {key}", f"{wanted} → {' '.join(value.split())}", todo="sysctl --system")


def configured(system: System) -> dict[str, set[str]]:
    """Read the files of sysctl.d(5) in their order, and ufw's. Returns key → values that are accepted."""
    files: dict[str, Path] = {}
    for folder in ("usr/lib/sysctl.d", "usr/local/lib/sysctl.d", "run/sysctl.d", "etc/sysctl.d"):
        files |= {file.name: file for file in sorted((system.root / folder).glob("*.conf"))}
    last = [system.root / "etc/sysctl.conf"] if "99-sysctl.conf" not in files else []
    values: dict[str, set[str]] = {}
    for file in [*(files[name] for name in sorted(files)), *last]:
        values |= {key: {value} for key, value in _assignments(file)}
    if any(re.match(r"\s*ENABLED=yes", line) for line in system.lines("etc/ufw/ufw.conf")):
        for key, value in _assignments(system.root / "etc/ufw/sysctl.conf"):
            values.setdefault(key.replace("/", "."), set()).add(value)
    return values


def _assignments(file: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = text(file).splitlines()
    except OSError:
        return
    for line in lines:
        key, equals, value = line.strip().lstrip("-").partition("=")
        if equals and key[:1] not in ("#", ";") and "*" not in key:
            yield key.strip(), " ".join(value.split())


def firewall(system: System) -> Iterator[Trait]:
    """Compare the loaded rules with those that ufw's files make in an empty network namespace."""
    if not any(re.match(r"\s*ENABLED=yes", line) for line in system.lines("etc/ufw/ufw.conf")):
        return  # a difference of that file is reported by itself
    for save in ("iptables-save", "ip6tables-save"):
        loaded = system.run([f"/usr/sbin/{save}"])
        script = f"/usr/lib/ufw/ufw-init start >/dev/null 2>&1; exec /usr/sbin/{save}"
        wanted = system.run(["/usr/bin/unshare", "--net", "/bin/sh", "-c", script])
        if loaded is None or not wanted:
            yield Trait(f"firewall ({save})", "the loaded rules cannot be read (needs root)", certain=False)
            continue
        for change in rule_differences(wanted, loaded):
            yield Trait(f"firewall ({save})", change, todo="ufw reload")


def rule_differences(wanted: str, loaded: str) -> Iterator[str]:
    """Compare two outputs of iptables-save. Rules of Docker and fail2ban are accepted beside ours."""
    want, have = _chains(wanted), _chains(loaded)
    for chain, (policy, rules) in want.items():
        if chain not in have:
            yield f"chain {chain} is missing"
            continue
        actual_policy, actual = have[chain]
        if policy != actual_policy:
            yield f"policy of {chain}: {policy} → {actual_policy}"
        missing = [rule for rule in rules if rule not in actual]
        if missing:
            yield f"{chain}: {len(missing)} of {len(rules)} rules are missing: {missing[0]}"
        own = [rule for rule in actual if rule not in rules and not _accepted(rule)]
        if own:
            yield f"{chain}: {len(own)} more rules: {own[0]}"
    for chain, (_, rules) in have.items():
        foreign = [rule for rule in rules if not _accepted(rule)]
        if chain not in want and chain.partition(" ")[2] in ("PREROUTING", "POSTROUTING") and foreign:
            yield f"{chain}: {len(foreign)} rules: {foreign[0]}"


def _accepted(rule: str) -> bool:
    """Whether a rule that ufw's files do not make is harmless: of Docker or fail2ban, or it only refuses."""
    refuses = rule.endswith("-j DROP") or "-j REJECT" in rule
    docker = re.search(r"\bdocker\d|\bbr-[0-9a-f]{12}\b|-j MASQUERADE|-j RETURN$|--dst-type LOCAL", rule)
    return refuses or bool(OTHER_CHAINS.search(rule)) or docker is not None


def _chains(saved: str) -> dict[str, tuple[str, list[str]]]:
    """Parse the output of iptables-save: `table CHAIN` → policy and rules."""
    chains: dict[str, tuple[str, list[str]]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            chains[f"{table} {name}"] = (policy, [])
        elif line.startswith("-A "):
            chains[f"{table} {line.split()[1]}"][1].append(line.partition(" ")[2].partition(" ")[2])
    return chains


def swap(system: System) -> Iterator[Trait]:
    """List swap areas in use that fstab does not name."""
    named = {line.split()[0] for line in system.lines("etc/fstab") if line.split()[2:3] == ["swap"]}
    for line in system.lines("proc/swaps")[1:]:
        area = line.split()[0]
        if area not in named:
            yield Trait("swap", f"{area} is in use and not in /etc/fstab", todo=f"swapoff {area}")


def host_name(system: System) -> Iterator[Trait]:
    """Compare the kernel's host name with /etc/hostname."""
    running, name = (system.text(path) for path in ("proc/sys/kernel/hostname", "etc/hostname"))
    if running and name and running.strip() != name.strip():
        yield Trait("host name", f"{name.strip()} → {running.strip()}", todo=f"hostname {name.strip()}")


def clock(system: System) -> Iterator[Trait]:
    """Check the clock as far as it can be without a time server: never before the image, never back by a day."""
    if system.now < system.image.header["epoch"]:
        yield Trait("clock", f"earlier than the image ({_date(system.now)})", todo=SET_CLOCK)
        return
    try:
        last = (system.root / "var/lib/systemd/timesync/clock").stat().st_mtime
    except OSError:
        last = 0
    if last > system.now + DAY:
        change = f"{(last - system.now) / DAY:.1f} days earlier than when it was last right ({_date(system.now)})"
        yield Trait("clock", change, todo=SET_CLOCK)
    elif (system.run(["timedatectl", "show", "--property=NTPSynchronized", "--value"]) or "").strip() != "yes":
        change = f"no time server has answered since the last boot; the date here is {_date(system.now)}"
        yield Trait("clock", change, certain=False, todo=f"if it is wrong: {SET_CLOCK}")


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def apparmor(system: System) -> Iterator[Trait]:
    """Check that AppArmor is on and all profiles in /etc/apparmor.d are loaded and enforced."""
    if (system.text("sys/module/apparmor/parameters/enabled") or "").strip() != "Y":
        yield Trait("AppArmor", "off")
        return
    loaded = system.text("sys/kernel/security/apparmor/profiles")
    if loaded is None:
        yield Trait("AppArmor", "the loaded profiles cannot be read (needs root)", certain=False)
        return
    modes = dict(re.findall(r"^(.+) \((\w+)\)$", loaded, re.MULTILINE))
    folder = system.root / "etc/apparmor.d"
    profiles = [file for file in sorted(folder.glob("*")) if file.is_file()]
    files = [str(file) for file in profiles if not (folder / "disable" / file.name).exists()]
    names = (system.run(["/usr/sbin/apparmor_parser", "--names", *files]) or "").splitlines() if files else []
    for name in sorted({name for name in names if "//" not in name}):
        if name not in modes:
            yield Trait("AppArmor", f"profile {name} is not loaded", todo="systemctl reload apparmor")
        elif modes[name] == "complain" and (folder / "force-complain").is_dir():
            yield Trait("AppArmor", f"profile {name} is not enforced", todo="systemctl reload apparmor")


def units(system: System) -> Iterator[Trait]:
    """List units that are masked or changed until the next boot, and enabled timers and sockets that do not run."""
    for unit in sorted((system.root / "run/systemd/system").glob("*")):
        if unit.is_symlink() and str(unit.readlink()) == "/dev/null":
            yield Trait(f"unit {unit.name}", "masked until the next boot", todo=f"systemctl unmask {unit.name}")
        elif unit.name.endswith(".d") and unit.is_dir():
            yield Trait(f"unit {unit.name[:-2]}", f"changed until the next boot by /run/systemd/system/{unit.name}")
    wanted = [path.rpartition("/")[2] for path in system.image.entries
              if re.fullmatch(r"etc/systemd/system/(timers|sockets)\.target\.wants/[^/]+", path)]  # fmt: skip
    properties = "--property=Id,ActiveState,LoadState,ConditionResult,ConditionTimestampMonotonic"
    printed = system.run(["systemctl", "show", properties, *wanted]) if wanted else ""
    if printed is None:
        yield Trait("units", "systemd does not answer", certain=False)
        return
    for block in printed.strip().split("\n\n"):
        values = dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE))
        # a condition of the unit, such as one on the processor or on virtualization, kept it from starting
        does_not_apply = values.get("ConditionResult") == "no" and values.get("ConditionTimestampMonotonic", "0") != "0"
        if values.get("ActiveState", "active") not in ("active", "activating") and not does_not_apply:
            state = values["LoadState"] if values["LoadState"] != "loaded" else values["ActiveState"]
            name = values["Id"]
            yield Trait(f"unit {name}", f"enabled in the image, {state} now", todo=f"systemctl start {name}")


def ports(system: System) -> Iterator[Trait]:
    """List sockets that listen for other machines and that the image does not name."""
    others = set(_listening(system)) - set(system.image.header["listen"])
    for port in sorted(others - _published(system)) if others else ():
        yield Trait(f"port {port}", "listens for other machines", todo=f"ss -lnp 'sport = :{port.split()[1]}'")


def _listening(system: System) -> Iterator[str]:
    """Yield `tcp 22` for each port on an address other than loopback (proc(5), /proc/net/tcp; state 0A: listening)."""
    for protocol, state in (("tcp", "0A"), ("udp", "07")):
        for suffix in ("", "6"):
            for line in system.lines(f"proc/net/{protocol}{suffix}")[1:]:
                fields = line.split()
                address, port = fields[1].split(":")
                number = int(port, 16)
                # addresses are in the byte order of the processor: 127.0.0.0/8 ends in 7F
                loopback = address.endswith("7F") if len(address) == 8 else address == "0" * 24 + "01000000"
                outgoing = protocol == "udp" and number >= EPHEMERAL
                if fields[3] == state and not loopback and not outgoing:
                    yield f"{protocol} {number}"


def _published(system: System) -> set[str]:
    """Return the published ports of containers, such as `tcp 8081`.

    Docker reserves each with a socket that never answers, and redirects its packets before they reach it. Who gets to
    the container is decided by the firewall's rules, which are compared.
    """
    loaded = system.run(["/usr/sbin/iptables-save"]) or ""
    rules = re.findall(r"^-A DOCKER .*-p (tcp|udp) .*--dport (\d+)\b.*-j DNAT", loaded, re.MULTILINE)
    return {f"{protocol} {port}" for protocol, port in rules}


def modules(system: System) -> Iterator[Trait]:
    """List loaded kernel modules that are not in the image."""
    known = {
        re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2]).replace("-", "_")
        for path in system.image.entries
        if re.search(r"\.ko(\.\w+)?$", path)
    }
    for line in system.lines("proc/modules"):
        name = line.split()[0]
        if name not in known:
            yield Trait(f"kernel module {name}", "loaded, and not in the image")


IN_EMULATION = "no_timer_check"
"""What `make boot` and the boot test add where QEMU emulates the processor: its timer fails the kernel's check."""


def command_line(system: System) -> Iterator[Trait]:
    """Compare the kernel's command line with the image's."""
    running, wanted = (system.text("proc/cmdline") or "").split(), system.image.header["cmdline"].split()
    extra = [word for word in running if word not in wanted and not word.startswith(("BOOT_IMAGE=", IN_EMULATION))]
    missing = [word for word in wanted if word not in running]
    if running and wanted and (extra or missing):
        words = [f"+{word}" for word in extra] + [f"-{word}" for word in missing]
        yield Trait("kernel command line", " ".join(words))


def mounts(system: System) -> Iterator[Trait]:
    """List what is mounted over files and folders of the image and is not in fstab."""
    named = {line.split()[1] for line in system.lines("etc/fstab") if len(line.split()) > 1 and line[0] != "#"}
    usual = ("proc", "sys", "dev", "run", "tmp", "efi")
    for line in system.lines("proc/self/mountinfo"):
        fields = line.split()
        point = fields[4].encode().decode("unicode_escape")
        path = point.strip("/")
        if path in system.image.entries and path.partition("/")[0] not in usual and point not in named:
            kind = fields[fields.index("-") + 1]
            yield Trait(f"mount {point}", f"{kind} is mounted over the image's files", todo=f"umount {point}")


def efi(system: System) -> Iterator[Trait]:
    """Compare the boot file with the kernel and the initial RAM disk of the image."""
    for change, certain in boot_file.differences(system.root, system.image):
        yield Trait("boot file", change, certain)


CHECKS: Sequence[Callable[[System], Iterator[Trait]]] = (
    sysctl, firewall, swap, host_name, clock, apparmor, units, ports, modules, command_line, mounts, efi,
)  # fmt: skip


def traits(system: System) -> Iterator[Trait]:
    """Run all checks. One that fails is reported as one that cannot judge."""
    for check in CHECKS:
        try:
            yield from check(system)
        except (OSError, ValueError, IndexError, KeyError) as err:
            yield Trait(check.__name__.replace("_", " "), f"cannot be read: {err}", certain=False)
