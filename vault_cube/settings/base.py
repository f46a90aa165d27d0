"""Pillar section `base`: users, ssh, firewall, Docker, time, logs, updates and first boot."""

import re
import zoneinfo
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from vault_cube.settings import legacy_zones
from vault_cube.settings.hardening import Hardening
from vault_cube.settings.secrets import PublicKey, no_secrets
from vault_cube.settings.strict import AbsolutePath, PackageName, Port, Section

Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9@:._-]+\.(service|socket|timer|path|mount|target)$")]
SystemId = Annotated[int, Field(ge=100, lt=1000)]
PersonId = Annotated[int, Field(ge=1000, lt=60000)]
OneLine = Annotated[str, Field(pattern=r'^[^\n"]+$')]

# packages that the states configure; without python3-systemd fail2ban starts but cannot read the journal
NEEDED = ("openssh-server", "sudo", "ufw", "iptables", "fail2ban", "python3-systemd", "docker.io", "apparmor",
          "cloud-init", "systemd-resolved", "systemd-timesyncd", "unattended-upgrades")  # fmt: skip
# modules that first boot, Docker, the firewall, the CIDATA medium and the GPUs need
NEEDED_MODULES = ("ext4", "vfat", "iso9660", "nvme", "usb_storage", "virtio_blk", "virtio_net", "overlay", "bridge",
                  "br_netfilter", "veth", "nf_tables", "nvidia", "nvidia_uvm")  # fmt: skip
# keywords of sshd_config(5) that salt/base/ssh.sls writes itself, and those that would change what is read
SSHD_KEYWORDS = frozenset((
    "port", "permitrootlogin", "passwordauthentication", "kbdinteractiveauthentication", "permitemptypasswords",
    "authenticationmethods", "allowgroups", "maxauthtries", "logingracetime", "x11forwarding", "allowagentforwarding",
    "allowtcpforwarding", "permitopen", "allowstreamlocalforwarding", "disableforwarding", "gatewayports",
    "permittunnel", "permituserenvironment", "clientaliveinterval", "clientalivecountmax", "banner", "hostkey",
    "hostkeyalgorithms", "kexalgorithms", "ciphers", "macs", "include", "match",
))  # fmt: skip
# packages that must not be upgraded on a running box: kernel and modules, driver, CUDA, Docker
UNTOUCHED = ("linux-image-amd64", "linux-modules-nvidia-580-open-generic", "nvidia-utils-580", "libnvidia-compute-580",
             "cuda-toolkit", "libcuda1", "docker.io", "containerd", "runc")  # fmt: skip


def _modern(name: str) -> str:
    if re.search(r"sha1(?!\d)|md5|cbc|arcfour|3des|ssh-dss|group1-|group14-sha1|umac-64|^ssh-rsa$|^none$", name):
        raise ValueError(f"{name} is insecure or outdated: remove it")
    return name


def _known_timezone(name: str) -> str:
    # the set is empty on a machine without time zone data; Settings checks whether the target has an old name
    if (known := zoneinfo.available_timezones()) and name not in known and name not in legacy_zones.PRESENT:
        raise ValueError("no such time zone: use a name such as Etc/UTC or Europe/Berlin")
    return name


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as err:
        raise ValueError(f"not a regular expression: {err}") from None
    return text


def _address(text: str) -> str:
    IPv4Address(text)  # raises a descriptive ValueError
    return text


SshdValue = Annotated[str, Field(pattern=r"^[^\s#\"][^\n#\"]*$")]
Module = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Algorithm = Annotated[str, Field(pattern=r"^[a-z0-9@.-]+$"), AfterValidator(_modern)]


class User(Section):
    """A person's account, which has no password."""

    uid: PersonId = Field(description="User id")
    gid: PersonId = Field(description="Id of the group of the same name")
    groups: list[Name] = Field(description="Further groups. A member of sudo or docker can become root")
    shell: AbsolutePath = Field(description="Login shell")
    ssh_keys: list[PublicKey] = Field(
        description="Public keys in the image; the published image has none, and cloud-init adds them at first boot"
    )


class SystemUser(Section):
    """A system account, created with a fixed id before its package is installed."""

    uid: SystemId = Field(description="User id")
    group: Name = Field(description="Primary group: one of system_groups, or nogroup")
    home: AbsolutePath = Field(description="Home directory")


class Ssh(Section):
    """The ssh server, which accepts keys only."""

    port: Port = Field(description="Port of sshd")
    service: Literal["ssh.service", "ssh.socket"] = Field(description="Unit that listens; ssh.socket on Ubuntu 24.04")
    group: Name = Field(
        description="Group whose members may log in; also in system_groups. cloud-init adds the users of its seed"
    )
    max_auth_tries: Annotated[
        int,
        Field(ge=1, le=6, description="MaxAuthTries: authentication attempts per connection (OpenSSH's default is 6)"),
    ]
    forward_ports: list[Port] = Field(
        description="Ports of the box's loopback address to which `ssh -L` may forward, such as 8000 for vLLM"
    )
    forward_sockets: bool = Field(
        description="Allow forwarding to Unix sockets, which VS Code needs with remote.SSH.remoteServerListenOnSocket"
    )
    forward_agent: bool = Field(description="Allow the forwarding of a person's ssh agent (`ssh -A`)")
    banner: str = Field(min_length=1, description="Text shown before login")
    host_key_algorithms: list[Algorithm] = Field(min_length=1, description="HostKeyAlgorithms, see sshd_config(5)")
    key_exchange: list[Algorithm] = Field(min_length=1, description="KexAlgorithms, see sshd_config(5)")
    ciphers: list[Algorithm] = Field(min_length=1, description="Ciphers, see sshd_config(5)")
    macs: list[Algorithm] = Field(min_length=1, description="MACs, see sshd_config(5)")
    settings: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]+$")], SshdValue | None] = Field(
        description="Further keywords of sshd_config(5); null: sshd's default"
    )

    @field_validator("settings")
    @classmethod
    def _keywords_have_one_place(cls, settings: dict[str, str | None]) -> dict[str, str | None]:
        if taken := sorted(name for name in settings if name.lower() in SSHD_KEYWORDS):
            raise ValueError(f"{taken[0]} is set by salt/base/ssh.sls: remove it, or change the key of base:ssh for it")
        return settings


class Firewall(Section):
    """The firewall (ufw), which denies all other incoming connections."""

    allow_tcp: list[Port] = Field(description="TCP ports that are open")
    container_tcp: list[Port] = Field(
        description="TCP ports inside containers that other machines reach, if published on an address of the box"
    )


class Fail2ban(Section):
    """Ban of addresses that repeatedly fail to log in over ssh."""

    failures: Annotated[int, Field(ge=1, description="Failed logins that lead to a ban (maxretry)")]
    within_s: Annotated[int, Field(ge=60, description="Time over which failures are counted (findtime)")]
    ban_s: Annotated[int, Field(ge=60, description="Length of a ban (bantime)")]


class Ulimit(Section):
    """A limit of setrlimit(2)."""

    soft: Annotated[int, Field(ge=-1, description="Limit that a process starts with; -1: none")]
    hard: Annotated[int, Field(ge=-1, description="Limit up to which a process may raise it; -1: none")]

    @model_validator(mode="after")
    def _soft_is_below_hard(self) -> "Ulimit":
        if self.hard != -1 and not 0 <= self.soft <= self.hard:
            raise ValueError(f"soft {self.soft} is above hard {self.hard}: lower it")
        return self


class Docker(Section):
    """Docker Engine, the distribution's package."""

    log_size_mb: Annotated[int, Field(ge=1, description="Size at which a container's log file is rotated")]
    log_files: Annotated[int, Field(ge=1, description="Number of log files kept per container")]
    publish_address: Annotated[str, AfterValidator(_address)] = Field(
        description="IPv4 address that published ports bind to by default"
    )
    icc: bool = Field(description="Whether containers of the default network reach each other")
    userland_proxy: bool = Field(description="Whether a process per published port forwards on loopback")
    default_ulimits: dict[Annotated[str, Field(pattern=r"^[a-z]+$")], Ulimit] = Field(
        description="Limits of a container's processes by name, such as nofile; see docker-run(1), --ulimit"
    )
    cri: bool = Field(description="Whether containerd serves Kubernetes (plugin io.containerd.grpc.v1.cri)")


class Resolver(Section):
    """Names of the local network without a DNS server (systemd-resolved)."""

    llmnr: bool = Field(description="Link-Local Multicast Name Resolution, port 5355")
    multicast_dns: bool = Field(description="Multicast DNS, port 5353")


class Logs(Section):
    """Limits of the journal."""

    journal_mb: Annotated[int, Field(ge=16, description="Disk space of the journal (SystemMaxUse)")]
    journal_days: Annotated[int, Field(ge=1, description="Age at which entries are deleted (MaxRetentionSec)")]


class Updates(Section):
    """Unattended upgrades: security updates only, without a reboot."""

    origins: list[OneLine] = Field(min_length=1, description="Patterns of Unattended-Upgrade::Origins-Pattern")
    never: list[Annotated[OneLine, AfterValidator(_regular_expression)]] = Field(
        min_length=1, description="Regular expressions of package names that are never upgraded, matched from the start"
    )

    @model_validator(mode="after")
    def _what_runs_is_left_alone(self) -> "Updates":
        upgradable = [name for name in UNTOUCHED if not any(re.match(pattern, name) for pattern in self.never)]
        if upgradable:
            raise ValueError(f"never must match {', '.join(upgradable)}: they must not change on a running box")
        if not all("security" in origin.lower() for origin in self.origins):
            raise ValueError("origins has a pattern without 'security': only security updates are allowed, remove it")
        return self


class Kernel(Section):
    """The kernel, which only a new image changes."""

    package: PackageName = Field(description="Package of the kernel; also in base:packages")
    modules: list[Module] = Field(description="Modules loaded at boot")
    blocked: list[Module] = Field(description="Modules that cannot be loaded")
    sysctl: dict[Annotated[str, Field(pattern=r"^[a-z0-9_.*/-]+$")], OneLine | None] = Field(
        description="sysctl settings; null: the kernel's value"
    )

    @model_validator(mode="after")
    def _needed_modules_load(self) -> "Kernel":
        names = {name.replace("-", "_") for name in self.blocked}
        if needed := sorted(names & {*NEEDED_MODULES, *(name.replace("-", "_") for name in self.modules)}):
            raise ValueError(f"blocked has {needed[0]}, which the box needs: remove it")
        return self

    @model_validator(mode="after")
    def _containers_keep_their_network(self) -> "Kernel":
        for key, value in self.sysctl.items():
            if value == "0" and re.fullmatch(r"net\.ipv4\.(ip_forward|conf\.(all|default)\.forwarding)", key):
                raise ValueError(f"sysctl sets {key} to 0, so containers would have no network: remove it")
        return self


class Base(Section):
    """Layer 1: the operating system, without GPUs."""

    packages: list[PackageName] = Field(min_length=1, description="Packages of the layer, with the kernel")
    hostname: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
            max_length=64,
            description="Host name of a box whose seed sets none",
        ),
    ]
    timezone: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9_+/-]+$", description="Time zone of a box whose seed sets none"),
        AfterValidator(_known_timezone),
    ]
    locale: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]+$", description="Locale (LANG)")]
    system_groups: dict[Name, SystemId] = Field(description="Ids of the groups that packages would otherwise create")
    system_users: dict[Name, SystemUser] = Field(description="Ids of the accounts that packages would otherwise create")
    users: dict[Name, User] = Field(
        min_length=1, description="Accounts of persons; cloud-init adds its ssh key to the first"
    )
    ssh: Ssh
    firewall: Firewall
    fail2ban: Fail2ban
    docker: Docker
    logs: Logs
    updates: Updates
    kernel: Kernel
    resolver: Resolver
    hardening: Hardening
    units: list[Unit] = Field(description="Units that are enabled")
    units_off: list[Unit] = Field(description="Units that are disabled")
    supplies: AbsolutePath = Field(
        description="Folder with packages and wheels (`image.supplies`), from which a box without a network "
        "repairs itself; it need not exist"
    )

    @model_validator(mode="before")
    @classmethod
    def _holds_no_secret(cls, given: Any) -> Any:
        no_secrets(given)
        return given

    @model_validator(mode="after")
    def _users_are_themselves(self) -> "Base":
        if taken := sorted({"root", *self.system_users} & self.users.keys()):
            raise ValueError(f"users: {taken[0]} is the name of a system account: use another name")
        uids = [*(user.uid for user in self.users.values()), *(user.uid for user in self.system_users.values())]
        gids = [*(user.gid for user in self.users.values()), *self.system_groups.values()]
        for kind, ids in (("uid", uids), ("gid", gids)):
            if twice := _twice(ids):
                raise ValueError(
                    f"{kind} {twice[0]} is used twice: use each {kind} once in users, system_users and system_groups"
                )
        for name, account in self.system_users.items():
            if account.group not in {*self.system_groups, "nogroup"}:
                raise ValueError(f"system_users:{name}:group: {account.group} is not in system_groups: add it there")
        first = next(iter(self.users))
        if "sudo" not in self.users[first].groups:
            raise ValueError(
                f"users: {first}, the first user, gets cloud-init's key and must be in group sudo to administer the box"
            )
        return self

    @model_validator(mode="after")
    def _box_is_reachable(self) -> "Base":
        if self.ssh.group not in self.system_groups:
            raise ValueError(f"system_groups lacks {self.ssh.group}, the value of ssh:group: add it with an id")
        if self.ssh.port not in self.firewall.allow_tcp:
            raise ValueError(f"firewall:allow_tcp lacks ssh's port {self.ssh.port}: add it, or nobody can log in")
        for key in ("allow_tcp", "container_tcp"):
            if twice := _twice(getattr(self.firewall, key)):
                raise ValueError(f"firewall:{key} has port {twice[0]} twice: remove one")
        if self.hardening.su_group not in {None, *self.system_groups}:
            raise ValueError(
                f"system_groups lacks {self.hardening.su_group}, the value of hardening:su_group: add it with an id"
            )
        if self.ssh.service not in self.units:
            raise ValueError(f"units lacks {self.ssh.service}, the value of ssh:service: add it")
        return self

    @model_validator(mode="after")
    def _parts_belong_together(self) -> "Base":
        if missing := [name for name in (self.kernel.package, *NEEDED) if name not in self.packages]:
            raise ValueError(f"packages lacks {', '.join(missing)}: add them")
        if twice := _twice(self.packages):
            raise ValueError(f"packages has {twice[0]} twice: remove one")
        if both := sorted(set(self.units) & set(self.units_off)):
            raise ValueError(f"{both[0]} is in units and in units_off: remove it from one")
        if self.locale not in ("C", "POSIX", "C.UTF-8") and "locales-all" not in self.packages:
            raise ValueError(f"locale {self.locale} needs the package locales-all: add it to packages")
        return self


def _twice(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]
