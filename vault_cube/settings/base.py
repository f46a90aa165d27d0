"""Pillar section `base`: the box before any GPU: users, ssh, firewall, Docker, time, logs, updates, first boot."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from vault_cube.settings.strict import PackageName, Port, Section

Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
             "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")  # fmt: skip


def _public_key(line: str) -> str:
    """An OpenSSH public key: type, base64 whose first field repeats the type (RFC 4253, 6.6), comment."""
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key: give the public half, the file that ends in .pub")
    kind, _, rest = line.partition(" ")
    if kind not in KEY_TYPES:
        raise ValueError(f"an ssh public key begins with one of {', '.join(KEY_TYPES[:3])} …")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the key's second word is not base64: was it cut off or wrapped?") from None
    if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != kind.encode() or len(blob) < 4 + len(kind) + 32:
        raise ValueError("the key is not whole, or not of the type that it says")
    return line


PublicKey = Annotated[str, AfterValidator(_public_key)]


class User(Section):
    """A person's account; it has no password, and nothing can give it one here."""

    uid: Annotated[int, Field(ge=1000, lt=60000)]
    gid: Annotated[int, Field(ge=1000, lt=60000)]
    groups: list[Name] = Field(description="further groups, such as sudo and docker")
    shell: Annotated[str, Field(pattern=r"^/.+$")]
    ssh_keys: list[PublicKey] = Field(description="baked in; the published image holds none: cloud-init brings them")


class Ssh(Section):
    """sshd: keys only."""

    port: Port
    service: str = Field(description="the unit that listens: ssh.service, or ssh.socket on Ubuntu 24.04")
    max_auth_tries: Annotated[int, Field(ge=1, le=6)]
    banner: str
    host_key_algorithms: list[str] = Field(min_length=1)
    key_exchange: list[str] = Field(min_length=1)
    ciphers: list[str] = Field(min_length=1)
    macs: list[str] = Field(min_length=1)


class Firewall(Section):
    """ufw: nothing comes in but these."""

    allow_tcp: list[Port]


class Fail2ban(Section):
    """Who fails at ssh is shut out."""

    failures: Annotated[int, Field(ge=1)]
    within_s: Annotated[int, Field(ge=60, description="failures are counted over this time, s")]
    ban_s: Annotated[int, Field(ge=60, description="a ban lasts this long, s")]


class Docker(Section):
    """Docker Engine of the distribution."""

    log_size_mb: Annotated[int, Field(ge=1, description="a container's log file is rotated at this size, MB")]
    log_files: Annotated[int, Field(ge=1)]
    publish_address: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+\.\d+$", description="where -p binds by default")]


class Logs(Section):
    """The journal's limits."""

    journal_mb: Annotated[int, Field(ge=16, description="disk space of the journal, MB")]
    journal_days: Annotated[int, Field(ge=1)]


class Updates(Section):
    """Unattended upgrades: security only, no reboot."""

    origins: list[str] = Field(min_length=1, description="patterns of Unattended-Upgrade::Origins-Pattern")
    never: list[str] = Field(min_length=1, description="regular expressions of package names that are left alone")


class Kernel(Section):
    """The kernel, which changes with the image and by nothing else."""

    package: PackageName
    modules: list[str] = Field(description="loaded at boot")
    sysctl: dict[str, str]


class Base(Section):
    """Layer 1."""

    packages: list[PackageName] = Field(min_length=1)
    hostname: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    timezone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+/-]+$")]
    locale: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    system_groups: dict[Name, Annotated[int, Field(ge=100, lt=1000)]] = Field(description="fixed ids of system groups")
    users: dict[Name, User] = Field(min_length=1)
    ssh: Ssh
    firewall: Firewall
    fail2ban: Fail2ban
    docker: Docker
    logs: Logs
    updates: Updates
    kernel: Kernel
    units: list[str] = Field(description="units that are on at boot")
    units_off: list[str] = Field(description="units that never start by themselves")

    @model_validator(mode="after")
    def _reachable(self) -> "Base":
        if self.ssh.port not in self.firewall.allow_tcp:
            raise ValueError(f"firewall:allow_tcp leaves out ssh's port {self.ssh.port}: the box would be shut to you")
        ids = [user.uid for user in self.users.values()]
        if len(ids) != len(set(ids)):
            raise ValueError("two users have the same uid")
        if self.kernel.package not in self.packages:
            raise ValueError(f"packages leaves out the kernel {self.kernel.package}")
        if "ip_forward" in " ".join(f"{key}={value}" for key, value in self.kernel.sysctl.items() if value == "0"):
            raise ValueError("kernel:sysctl turns forwarding off: containers would lose their network")
        return self
