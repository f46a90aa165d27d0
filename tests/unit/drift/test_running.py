"""Differences of the running system, with the files of /proc and the output of programs that the test writes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vault_cube.drift import boot_file, running
from vault_cube.drift.manifest import Entry, Header, Manifest
from vault_cube.tree_manifest import Line

EPOCH = 1_700_000_000
RULES = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A DOCKER-USER -j ufw-user-forward
COMMIT
"""
DOCKER = RULES.replace("COMMIT", "-A FORWARD -o docker0 -j DOCKER\n-A DOCKER-USER -j RETURN\nCOMMIT").replace(
    "*filter", "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n*filter"
)
TCP = "sl local rem st\n{rows}"
UNITS = "Id=apt-daily-upgrade.timer\nLoadState=loaded\nActiveState=active\n"


@dataclass(frozen=True)
class Fake(running.System):
    """A system whose programs print what the test says."""

    outputs: dict[str, str | None] = field(default_factory=dict)

    def run(self, command: Sequence[str]) -> str | None:
        return self.outputs.get(Path(command[0]).name)


def entry(path: str, content: str = "-", kind: str = "f", size: int = 0) -> tuple[str, Entry]:
    return path, Entry(0, "", Line(path, kind, 0o644, "0:0", size, 0, content, "-"))


@pytest.fixture
def system(tmp_path: Path) -> Fake:
    """A running system without differences."""
    header: Header = {
        "format": 1, "name": "box", "version": "1", "target": "t", "epoch": EPOCH, "layers": ["root"],
        "cmdline": "root=PARTUUID=x ro quiet", "packages": {}, "tables": {}, "expected": {},
        "listen": ["tcp 22", "udp 68"], "states": {}, "signers": [],
    }  # fmt: skip
    entries = dict(
        [
            entry("etc"),
            entry("etc/ssh/sshd_config"),
            entry("usr/lib/modules/6.1/kernel/net/br_netfilter.ko.xz"),
            entry("etc/systemd/system/timers.target.wants/apt-daily-upgrade.timer", "/x", "l"),
            entry("boot/vmlinuz-6.1", hashlib.sha256(b"kernel").hexdigest(), size=6),
        ]
    )
    files = {
        "etc/sysctl.d/99-vault-cube.conf": "kernel.dmesg_restrict = 1\nnet.ipv4.ping_group_range = 0  2147483647\n",
        "usr/lib/sysctl.d/50-default.conf": "kernel.dmesg_restrict = 0\n-net.ipv4.conf.*.rp_filter = 2\n# c\n",
        "etc/ufw/ufw.conf": "ENABLED=yes\n",
        "etc/ufw/sysctl.conf": "net/ipv4/conf/all/accept_redirects=0\n",
        "proc/sys/kernel/dmesg_restrict": "1\n",
        "proc/sys/net/ipv4/ping_group_range": "0\t2147483647\n",
        "proc/sys/net/ipv4/conf/all/accept_redirects": "0\n",
        "proc/sys/kernel/hostname": "box\n",
        "etc/hostname": "box\n",
        "etc/fstab": "LABEL=root / ext4 defaults 0 1\n/dev/sdb none swap sw 0 0\n",
        "proc/swaps": "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n",
        "proc/net/tcp": TCP.format(rows="0: 00000000:0016 00000000:0000 0A\n1: 0100007F:2382 00000000:0000 0A\n"),
        "proc/net/tcp6": TCP.format(rows="0: 00000000000000000000000001000000:2382 0:0 0A\n"),
        "proc/net/udp": TCP.format(rows="0: 00000000:0044 00000000:0000 07\n1: 00000000:C350 00000000:0000 07\n"),
        "proc/modules": "br_netfilter 1 0 - Live 0x0\n",
        "proc/cmdline": "root=PARTUUID=x ro quiet\n",
        "proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /proc rw - proc proc rw\n",
        "sys/module/apparmor/parameters/enabled": "Y\n",
        "sys/kernel/security/apparmor/profiles": "docker-default (enforce)\nman (enforce)\n",
        "etc/apparmor.d/man": "profile man {}\n",
        "efi/EFI/BOOT/BOOTX64.EFI": "",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / boot_file.PLACE).write_bytes(pe({".linux": b"kernel\0\0", ".cmdline": b"root=PARTUUID=x ro quiet\0"}))
    outputs: dict[str, str | None] = {
        "iptables-save": RULES, "ip6tables-save": RULES, "unshare": RULES, "timedatectl": "yes\n",
        "apparmor_parser": "man\n", "systemctl": UNITS,
    }  # fmt: skip
    return Fake(Manifest(header, entries, "sha256"), tmp_path, EPOCH + 1000, outputs)


def pe(parts: dict[str, bytes]) -> bytes:
    """Make a PE file with some sections."""
    table, offset = b"", 0x200
    for name, content in parts.items():
        table += struct.pack("<8sIIII", name.encode(), len(content), 0, len(content), offset) + b"\0" * 16
        offset += len(content)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0"
    head += struct.pack("<HH", 0, len(parts)) + b"\0" * 12 + struct.pack("<HH", 0, 0)
    return (head + table).ljust(0x200, b"\0") + b"".join(parts.values())


def write(path: str, text: str) -> Callable[[Fake], None]:
    def change(system: Fake) -> None:
        (system.root / path).parent.mkdir(parents=True, exist_ok=True)
        (system.root / path).write_text(text)

    return change


def prints(program: str, text: str | None) -> Callable[[Fake], None]:
    return lambda system: system.outputs.update({program: text})


def link(path: str) -> Callable[[Fake], None]:
    return lambda system: (system.root / path).symlink_to("/dev/null")


MUTATIONS = {
    "a sysctl": (write("proc/sys/kernel/dmesg_restrict", "0\n"), "sysctl kernel.dmesg_restrict", "1 → 0"),
    "a sysctl of ufw": (
        write("proc/sys/net/ipv4/conf/all/accept_redirects", "1\n"), "sysctl net.ipv4.conf.all.accept_redirects", "1",
    ),
    "flushed rules": (prints("iptables-save", "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"), "firewall", "INPUT"),
    "a removed chain": (
        prints("iptables-save", RULES.replace(":DOCKER-USER - [0:0]\n", "").replace("-A DOCKER-USER", "-A INPUT")),
        "firewall", "DOCKER-USER is missing",
    ),
    "an accepting policy": (
        prints("ip6tables-save", RULES.replace("INPUT DROP", "INPUT ACCEPT")), "ip6tables-save", "DROP → ACCEPT",
    ),
    "an open port": (
        prints("iptables-save", RULES.replace("COMMIT", "-A INPUT -p tcp --dport 4444 -j ACCEPT\nCOMMIT")),
        "firewall", "--dport 4444",
    ),
    "a redirected port": (
        prints("iptables-save", "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j REDIRECT\nCOMMIT\n" + RULES),
        "firewall", "REDIRECT",
    ),
    "swap": (write("proc/swaps", "Filename\n/swapfile file 1 0 -2\n"), "swap", "/swapfile"),
    "the host name": (write("proc/sys/kernel/hostname", "evil\n"), "host name", "box → evil"),
    "AppArmor is off": (write("sys/module/apparmor/parameters/enabled", "N\n"), "AppArmor", "off"),
    "a profile is not loaded": (
        write("sys/kernel/security/apparmor/profiles", "docker-default (enforce)\n"), "AppArmor", "man is not loaded",
    ),
    "a timer does not run": (
        prints("systemctl", UNITS.replace("=active", "=inactive")), "unit apt-daily-upgrade.timer", "inactive now",
    ),
    "a timer is masked": (
        prints("systemctl", UNITS.replace("=active", "=inactive").replace("=loaded", "=masked")),
        "unit apt-daily-upgrade.timer", "masked now",
    ),
    "a unit is masked until the next boot": (link("run/systemd/system/ssh.service"), "unit ssh.service", "masked"),
    "a drop-in until the next boot": (
        write("run/systemd/system/ssh.service.d/x.conf", ""), "unit ssh.service", "changed until the next boot",
    ),
    "a TCP port": (
        write("proc/net/tcp", TCP.format(rows="0: 00000000:115C 00000000:0000 0A\n")), "port tcp 4444", "listens",
    ),
    "a TCP port of IPv6": (
        write("proc/net/tcp6", TCP.format(rows=f"0: {'0' * 32}:115C 0:0 0A\n")), "port tcp 4444", "listens",
    ),
    "a UDP port": (
        write("proc/net/udp", TCP.format(rows="0: 00000000:0035 00000000:0000 07\n")), "port udp 53", "listens",
    ),
    "a kernel module": (write("proc/modules", "rootkit 1 0 - Live 0x0\n"), "kernel module rootkit", "loaded"),
    "the command line": (
        write("proc/cmdline", "root=PARTUUID=x ro init=/bin/sh\n"), "kernel command line", "+init=/bin/sh -quiet",
    ),
    "a mount over a file": (
        write("proc/self/mountinfo", "3 1 0:9 / /etc/ssh/sshd_config rw - tmpfs none rw\n"),
        "mount /etc/ssh/sshd_config", "tmpfs is mounted",
    ),
    "a boot file with another kernel": (
        lambda system: (system.root / boot_file.PLACE).write_bytes(pe({".linux": b"evil", ".cmdline": b""})),
        "boot file", "differs",
    ),
    "a boot file with another command line": (
        lambda system: (system.root / boot_file.PLACE).write_bytes(
            pe({".linux": b"kernel", ".cmdline": b"init=/bin/sh"})
        ),
        "boot file", "init=/bin/sh",
    ),
    "a boot file that is none": (
        lambda system: (system.root / boot_file.PLACE).write_bytes(b"MZ" + b"\0" * 80), "boot file", "not a unified",
    ),
    "another file to boot": (write("efi/EFI/evil/x.efi", "x"), "boot file", "/efi/EFI/evil/x.efi"),
}  # fmt: skip


def test_a_system_without_differences_has_none(system: Fake) -> None:
    assert list(running.traits(system)) == []


def test_rules_of_docker_are_no_difference(system: Fake) -> None:
    system.outputs["iptables-save"] = DOCKER
    assert list(running.traits(system)) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
        "-A ufw-user-input -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable",
        "-A FORWARD -i br-0123456789ab -o br-0123456789ab -j ACCEPT",
        "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
    ],
)
def test_rules_of_fail2ban_and_docker_are_no_difference(system: Fake, rule: str) -> None:
    system.outputs["iptables-save"] = RULES.replace("COMMIT", f"{rule}\nCOMMIT")
    assert list(running.traits(system)) == []


PUBLISHED = """\
*nat
:DOCKER - [0:0]
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i br-0123456789ab -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.18.0.2:8000
-A DOCKER ! -i docker0 -p udp -m udp --dport 5353 -j DNAT --to-destination 172.17.0.2:53
COMMIT
"""


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("tcp", "0: 00000000:1F91 00000000:0000 0A\n"),
        ("tcp6", f"0: {'0' * 32}:1F91 0:0 0A\n"),
        ("udp", "0: 00000000:14E9 00000000:0000 07\n"),
    ],
)
def test_published_ports_of_containers_are_no_difference(system: Fake, table: str, row: str) -> None:
    write(f"proc/net/{table}", TCP.format(rows=row))(system)
    assert list(running.ports(system))
    system.outputs["iptables-save"] = RULES + PUBLISHED
    assert list(running.ports(system)) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-A DOCKER ! -i docker0 -p udp -m udp --dport 8081 -j DNAT --to-destination 172.17.0.2:53",
        "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 18081 -j DNAT --to-destination 172.17.0.2:80",
        "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j RETURN",
        "-A PREROUTING -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.0.0.9:80",
    ],
)
def test_another_program_s_port_is_reported_beside_them(system: Fake, rule: str) -> None:
    write("proc/net/tcp", TCP.format(rows="0: 00000000:1F91 00000000:0000 0A\n"))(system)
    system.outputs["iptables-save"] = RULES + f"*nat\n:DOCKER - [0:0]\n{rule}\nCOMMIT\n"
    assert [trait.what for trait in running.ports(system)] == ["port tcp 8081"]


def test_a_timer_whose_condition_does_not_apply_is_no_difference(system: Fake) -> None:
    condition = "ConditionResult=no\nConditionTimestampMonotonic=77\n"
    system.outputs["systemctl"] = UNITS.replace("=active", "=inactive") + condition
    assert list(running.traits(system)) == []


@pytest.mark.parametrize(("change", "what", "words"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_difference_is_reported(system: Fake, change: Callable[[Fake], None], what: str, words: str) -> None:
    change(system)
    traits = list(running.traits(system))
    assert any(what in trait.what and words in trait.change and trait.certain for trait in traits), traits


def test_a_clock_before_the_image_is_wrong(system: Fake) -> None:
    early = Fake(system.image, system.root, EPOCH - 1, system.outputs)
    (trait,) = running.traits(early)
    assert (trait.what, trait.certain, trait.todo) == ("clock", True, running.SET_CLOCK)
    assert "2023-11-14" in trait.change


def test_a_clock_that_no_server_confirms_is_shown_with_its_date(system: Fake) -> None:
    ahead = Fake(system.image, system.root, EPOCH + 3653 * 86400, {**system.outputs, "timedatectl": "no\n"})
    (trait,) = running.clock(ahead)
    assert (trait.certain, "the date here is 2033-11-14" in trait.change) == (False, True)


def test_a_clock_that_went_back_by_days_is_wrong(system: Fake) -> None:
    write("var/lib/systemd/timesync/clock", "")(system)  # its time is that of the test, years after the image's
    (trait,) = running.clock(system)
    assert trait.certain
    assert "days earlier" in trait.change


@pytest.mark.parametrize(
    ("program", "what"), [("timedatectl", "clock"), ("unshare", "firewall"), ("systemctl", "units")]
)
def test_what_cannot_be_asked_cannot_be_judged(system: Fake, program: str, what: str) -> None:
    system.outputs[program] = None
    traits = list(running.traits(system))
    assert traits
    assert all(what in trait.what and not trait.certain for trait in traits)


def test_unreadable_files_of_proc_do_not_stop_the_other_checks(system: Fake) -> None:
    write("proc/net/tcp", "header\nbroken\n")(system)
    write("proc/swaps", "Filename\n/swapfile file 1 0 -2\n")(system)
    traits = {trait.what: trait.certain for trait in running.traits(system)}
    assert traits == {"ports": False, "swap": True}
