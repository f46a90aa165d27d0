"""What Ubuntu 24.04 and NVIDIA package differently from Debian 13, as far as this project's states can tell.

Each function reshapes or adds packages and says which behaviour it imitates. The behaviour is from the audit of the
production target and from the packages' public sources; the lines are written for this stand-in.
"""

import re
import shutil
import struct
from pathlib import Path

from noble_deb import Deb, Parts

DRIVER = "580.178.04"
DRIVER_VERSION = f"{DRIVER}-0ubuntu0.24.04.1+standin"
MULTIVERSE_DRIVER = "595.84-0ubuntu0.24.04.1+standin"
TOOLKIT_VERSION = "1.20.0-1"

SUITES = {"docker.io": "noble-updates", "fail2ban": "noble-updates", "openssh-server": "noble-security"}
"""packages whose only version is not in the release pocket"""
REPLACED = ("debian-archive-keyring", "docker-cli", "linux-image-cloud-amd64", "systemd-repart")
"""Debian's packages that noble does not have under these names"""

DATASOURCES = (
    "NoCloud, ConfigDrive, OpenNebula, DigitalOcean, Azure, AltCloud, OVF, MAAS, GCE, OpenStack, CloudSigma, SmartOS, "
    "Bigstep, Scaleway, AliYun, Ec2, CloudStack, Hetzner, IBMCloud, Oracle, Exoscale, RbxCloud, UpCloud, VMware, "
    "Vultr, LXD, NWCS, Akamai, WSL, None"
)


def reshape(parts: Parts, keyring: bytes, components: dict[str, str]) -> dict[str, list[Deb]]:
    """Make all packages that differ.

    keyring: the archive's public key. components: of Ubuntu's packages, by name.

    Returns them by repository: `ubuntu` (both states of it), `current`, `lagging`, `nvidia`, `docker`.
    """
    made: dict[str, list[Deb]] = {"ubuntu": [], "current": [], "lagging": [], "nvidia": [], "docker": []}
    abi = kernel(parts)
    for change in (release_names, init, ssh, cloud_init, docker, updates, microcode):
        change(parts)
    keys(parts, keyring)
    driver(parts, abi)
    fallback_driver(parts)
    made["ubuntu"] = parts.made
    for state, modules_abi in (("current", abi), ("lagging", older(abi))):
        parts.made = made[state]
        driver_modules(parts, modules_abi)
    parts.made = made["lagging"]
    bare_kernel(parts, older(abi))
    parts.made = made["nvidia"]
    container_toolkit(parts)
    parts.made = made["docker"]
    parts.new("docker-ce", "5:29.1.3-1~ubuntu.24.04~noble", "stable", "noble")
    for deb in made["ubuntu"]:
        deb.component = components.get(deb.name, deb.component)
        deb.suite = SUITES.get(deb.name, deb.suite)
    return made


def older(abi: str) -> str:
    """The kernel ABI before this one: 6.12.118+deb13-cloud-amd64 → 6.12.117+deb13-cloud-amd64."""
    return re.sub(r"^(\d+\.\d+\.)(\d+)", lambda match: f"{match[1]}{int(match[2]) - 1}", abi)


# ---- the distribution


def release_names(parts: Parts) -> None:
    """The box says that it is Ubuntu 24.04, and a stand-in."""
    base = parts.unpacked("base-files")
    base.write(
        "/usr/lib/os-release",
        'PRETTY_NAME="Ubuntu 24.04 LTS (stand-in made of Debian 13 packages)"\nNAME="Ubuntu"\nVERSION_ID="24.04"\n'
        'VERSION="24.04 LTS (Noble Numbat)"\nVERSION_CODENAME=noble\n'
        "ID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n",
    )
    base.write(
        "/etc/lsb-release",
        "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\nDISTRIB_CODENAME=noble\n"
        'DISTRIB_DESCRIPTION="Ubuntu 24.04 LTS (stand-in)"\n',
    )
    base.write("/etc/issue", "Ubuntu 24.04 LTS (stand-in made of Debian 13 packages) \\n \\l\n\n")
    shutil.move(base.path("/etc/dpkg/origins/debian"), base.path("/etc/dpkg/origins/ubuntu"))
    base.write("/etc/dpkg/origins/ubuntu", "Vendor: Ubuntu\nVendor-URL: http://www.ubuntu.com/\nParent: Debian\n")
    base.edit("DEBIAN/postinst", ("origins/debian", "origins/ubuntu"), ("ln -sf debian", "ln -sf ubuntu"))
    base.edit("DEBIAN/conffiles", ("origins/debian", "origins/ubuntu"))


def init(parts: Parts) -> None:
    """systemd-repart is no package of its own: the program is in systemd."""
    systemd = parts.unpacked("systemd")
    shutil.copytree(parts.tree("systemd-repart"), systemd.folder, symlinks=True, dirs_exist_ok=True)
    systemd.depends("libfdisk1")


def ssh(parts: Parts) -> None:
    """sshd starts with the first connection: ssh.socket is enabled, ssh.service is not; no unit makes host keys.

    noble's socket gets its port from sshd's configuration by sshd-socket-generator, which Debian lacks: port 22 here.
    """
    server = parts.unpacked("openssh-server")
    server.path("/usr/lib/systemd/system/sshd-keygen.service").unlink()
    server.write(
        "/usr/lib/systemd/system/ssh.socket",
        "[Unit]\nDescription=OpenBSD Secure Shell server socket\nBefore=sockets.target ssh.service\n"
        "ConditionPathExists=!/etc/ssh/sshd_not_to_be_run\n\n"
        "[Socket]\nListenStream=0.0.0.0:22\nListenStream=[::]:22\nBindIPv6Only=ipv6-only\nAccept=no\nFreeBind=yes\n\n"
        "[Install]\nWantedBy=sockets.target\nRequiredBy=ssh.service\n",
    )
    postinst = server.path("DEBIAN/postinst")
    # debhelper's part of the script is in sections, one per unit and action
    sections = re.split(r"(?=# Automatically added by )|(?<=# End automatically added section\n)", postinst.read_text())
    kept = [section for section in sections if "sshd-keygen.service" not in section]
    # the helper enables the socket where Debian's script has it enable the service
    postinst.write_text("".join(kept).replace("'ssh.service'", "'ssh.socket'"))


def cloud_init(parts: Parts) -> None:
    """The postinst writes 90_dpkg.cfg with every datasource; netplan and growpart are dependencies."""
    package = parts.unpacked("cloud-init")
    package.depends("netplan.io", "cloud-guest-utils", "dhcpcd-base")
    package.edit("/etc/cloud/cloud.cfg", ("distro: debian", "distro: ubuntu"), ("name: debian", "name: ubuntu"))
    package.script(
        "postinst",
        "if [ \"$1\" = configure ]; then\n  cat >/etc/cloud/cloud.cfg.d/90_dpkg.cfg <<'EOF'\n"
        "# to update this file, run dpkg-reconfigure cloud-init\n"
        f"datasource_list: [ {DATASOURCES} ]\nEOF\nfi",
    )


def docker(parts: Parts) -> None:
    """docker.io has the command `docker`, which Debian splits off as docker-cli."""
    engine = parts.unpacked("docker.io")
    command = parts.tree("docker-cli")
    shutil.copytree(command / "usr/bin", engine.folder / "usr/bin", symlinks=True, dirs_exist_ok=True)


def updates(parts: Parts) -> None:
    """unattended-upgrades ships Allowed-Origins, not Debian's Origins-Pattern."""
    package = parts.unpacked("unattended-upgrades")
    package.write(
        "/usr/share/unattended-upgrades/50unattended-upgrades",
        'Unattended-Upgrade::Allowed-Origins {\n  "${distro_id}:${distro_codename}";\n'
        '  "${distro_id}:${distro_codename}-security";\n  "${distro_id}ESMApps:${distro_codename}-apps-security";\n'
        '  "${distro_id}ESM:${distro_codename}-infra-security";\n};\nUnattended-Upgrade::DevRelease "auto";\n',
    )


def microcode(parts: Parts) -> None:
    """The packages of both processor makers come with the kernel, as dependencies; they are Debian's own.

    Their initramfs hooks look at the processor of the machine that builds, unless they are configured not to.
    """
    generic = next(deb for deb in parts.made if deb.name == "linux-image-generic")
    generic.depends("intel-microcode", "amd64-microcode")


def keys(parts: Parts, keyring: bytes) -> None:
    """apt depends on ubuntu-keyring, which has the archive's key where the pillar's sources look for it."""
    apt = parts.unpacked("apt")
    apt.depends("ubuntu-keyring", without=("debian-archive-keyring",))
    package = parts.new("ubuntu-keyring", "2023.11.28.1+standin", "main", "noble", Priority="important")
    package.path("/usr/share/keyrings/ubuntu-archive-keyring.gpg").write_bytes(keyring)


# ---- kernel and driver


def kernel(parts: Parts) -> str:
    """linux-image-generic names the newest ABI; image, modules and more modules are packages of their own.

    The kernel is Debian's for virtual machines. Its ABI is what it reports as `uname -r`: under a name of Ubuntu's
    form its modules would not load. Returns the ABI.
    """
    source = next(name for name in parts.debs if re.match(r"linux-image-\d", name))
    abi = source.removeprefix("linux-image-")
    image = parts.unpacked(source)
    version = image.control["Version"] = image.control["Version"] + "+standin"
    image.suite = "noble-updates"
    image.control.pop("Recommends", None)
    modules = parts.new(f"linux-modules-{abi}", version, "main", image.suite)
    shutil.move(image.folder / "usr/lib/modules", modules.path("/usr/lib/modules"))
    image.depends(f"linux-modules-{abi}")
    extra = parts.new(f"linux-modules-extra-{abi}", version, "main", image.suite, Depends=f"linux-image-{abi}")
    place = f"/usr/lib/modules/{abi}/kernel/drivers/infiniband"
    shutil.move(modules.folder / place.lstrip("/"), extra.path(place))
    for package in (modules, extra):
        package.script("postinst", f"if [ -e /lib/modules/{abi}/modules.order ]; then depmod {abi}; fi")
    parts.new("linux-firmware", "20240318.git3b128b60-0ubuntu2+standin", "main", "noble", Architecture="all")
    wanted = f"linux-image-{abi}, linux-modules-extra-{abi}, linux-firmware"
    parts.new("linux-image-generic", version, "main", image.suite, Depends=wanted)
    parts.new("linux-headers-generic", version, "main", image.suite)
    return abi


def bare_kernel(parts: Parts, abi: str) -> None:
    """An older ABI that the archive still has: nothing boots it."""
    image = parts.new(f"linux-image-{abi}", "1+standin", "main", "noble-updates")
    for name in (f"/boot/vmlinuz-{abi}", f"/usr/lib/modules/{abi}/modules.order"):
        image.write(name, "")


def driver(parts: Parts, abi: str) -> None:
    """The user space of branch 580: strict versions, a static persistence unit that switches persistence off.

    Programs and library are those of Debian's driver 550; without a GPU both branches do the same: nothing.
    """

    def package(name: str, depends: str = "", **fields: str) -> Deb:
        wanted = {"Depends": depends} if depends else {}
        return parts.new(name, DRIVER_VERSION, "restricted", "noble-updates", **wanted, **fields)

    exact = f"(= {DRIVER_VERSION})"
    common = package("nvidia-kernel-common-580", Provides=f"nvidia-kernel-common-580-{DRIVER}")
    common.write(
        "/usr/lib/udev/rules.d/71-nvidia.rules",
        'ACTION=="add", DEVPATH=="/bus/pci/drivers/nvidia", TAG+="systemd", '
        'ENV{SYSTEMD_WANTS}="nvidia-persistenced.service"\n',
    )
    library = package("libnvidia-compute-580")
    found = next(parts.tree("libnvidia-ml1").rglob("libnvidia-ml.so.*.*"))
    shutil.copy(found, library.path(f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{DRIVER}"))
    library.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{DRIVER}")
    package("libnvidia-cfg1-580")
    utilities = package("nvidia-utils-580", f"libnvidia-compute-580, nvidia-kernel-common-580-{DRIVER}")
    shutil.copy(parts.tree("nvidia-smi") / "usr/lib/nvidia/current/nvidia-smi", utilities.path("/usr/bin/nvidia-smi"))
    daemon = package("nvidia-compute-utils-580", "adduser, libnvidia-cfg1-580, libtirpc3t64")
    program = "usr/bin/nvidia-persistenced"
    shutil.copy(parts.tree("nvidia-persistenced") / program, daemon.path(program))
    daemon.write(
        "/usr/lib/systemd/system/nvidia-persistenced.service",
        "[Unit]\nDescription=NVIDIA Persistence Daemon\nStopWhenUnneeded=true\n\n"
        "[Service]\nType=forking\n"
        "ExecStart=/usr/bin/nvidia-persistenced --user nvidia-persistenced --no-persistence-mode --verbose\n"
        "ExecStopPost=/bin/rm -rf /var/run/nvidia-persistenced\n",
    )
    daemon.script(
        "postinst",
        'if [ "$1" = configure ] && ! getent passwd nvidia-persistenced >/dev/null; then\n'
        "  adduser --system --group --home /nonexistent --no-create-home --gecos 'NVIDIA Persistence Daemon' "
        "nvidia-persistenced\nfi",
    )
    package(
        "nvidia-headless-no-dkms-580-open",
        f"libnvidia-compute-580 {exact}, libnvidia-cfg1-580 {exact}, nvidia-compute-utils-580 {exact}",
    )


def driver_modules(parts: Parts, abi: str) -> None:
    """linux-modules-nvidia-580-open-generic → -<ABI> → the signatures → the kernel of exactly that ABI."""
    version = f"{abi.partition('+')[0]}.1+standin"

    def package(name: str, depends: str) -> Deb:
        return parts.new(name, version, "restricted", "noble-updates", Depends=depends)

    package(f"linux-signatures-nvidia-{abi}", f"linux-image-{abi}")
    modules = package(
        f"linux-modules-nvidia-580-open-{abi}",
        f"linux-signatures-nvidia-{abi} (= {version}), nvidia-kernel-common-580 (<= {DRIVER}-1), "
        f"nvidia-kernel-common-580 (>= {DRIVER}-0)",
    )
    for name in ("nvidia", "nvidia-uvm"):
        file = modules.path(f"/usr/lib/modules/{abi}/kernel/nvidia-580-open/{name}.ko")
        file.write_bytes(module_description(name=name, version=DRIVER, license="Dual MIT/GPL"))
    modules.script("postinst", f"if [ -e /lib/modules/{abi}/modules.order ]; then depmod {abi}; fi")
    package("linux-modules-nvidia-580-open-generic", f"linux-modules-nvidia-580-open-{abi} (= {version})")


def fallback_driver(parts: Parts) -> None:
    """Branch 595 is in multiverse."""
    for name in ("linux-modules-nvidia-595-open-generic", "nvidia-headless-no-dkms-595-open", "nvidia-utils-595"):
        parts.new(name, MULTIVERSE_DRIVER, "multiverse", "noble-updates")


def module_description(**fields: str) -> bytes:
    """A kernel module's .modinfo section and nothing else: modinfo reads it, and no kernel loads it.

    An ELF relocatable of three sections: null, .modinfo, .shstrtab (elf(5)).
    """
    info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in fields.items())
    info += b"description=stand-in without code (tests/noble)\0" + b"\0" * (-len(info) % 8)
    names = b"\0.modinfo\0.shstrtab\0"
    names_at = 64 + len(info)
    table_at = names_at + len(names) + (-(names_at + len(names)) % 8)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 2
    )

    def section(name: int, kind: int, flags: int, start: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, start, size, 0, 0, 1, 0)

    table = bytes(64) + section(1, 1, 2, 64, len(info)) + section(10, 3, 0, names_at, len(names))
    return (header + info + names).ljust(table_at, b"\0") + table


# ---- NVIDIA's own repository

CTK = Path(__file__).with_name("nvidia_ctk.py")


def container_toolkit(parts: Parts) -> None:
    """The toolkit's base package: it depends on nothing, and its refresh units are enabled when it is installed.

    Without a card `nvidia-smi -L` fails, and so does the service: its conditions ask for the program and the module,
    not for a card.
    """
    base = parts.new("nvidia-container-toolkit-base", TOOLKIT_VERSION, "main", "/")
    base.write("/usr/bin/nvidia-ctk", CTK.read_text(), 0o755)
    base.write(
        "/usr/lib/systemd/system/nvidia-cdi-refresh.service",
        "[Unit]\nDescription=Refresh NVIDIA CDI specification file\nConditionPathExists=|/usr/bin/nvidia-smi\n"
        "ConditionPathExists=|/usr/sbin/nvidia-smi\nConditionPathExists=/usr/bin/nvidia-ctk\n"
        "StartLimitBurst=5\nStartLimitIntervalSec=10s\n\n"
        "[Service]\nType=oneshot\nEnvironment=NVIDIA_CTK_CDI_OUTPUT_FILE_PATH=/var/run/cdi/nvidia.yaml\n"
        "ExecCondition=/bin/sh -c 'grep -qE \"/(nvidia|nvidia-current)[.]ko\" /lib/modules/%v/modules.dep'\n"
        "ExecStart=/usr/bin/nvidia-smi -L\nExecStart=/usr/bin/nvidia-ctk cdi generate\n"
        "Restart=on-failure\nRestartSec=1s\n\n[Install]\nWantedBy=multi-user.target\n",
    )
    base.write(
        "/usr/lib/systemd/system/nvidia-cdi-refresh.path",
        "[Unit]\nDescription=Refresh the CDI specification after the driver or the toolkit changed\n\n"
        "[Path]\nPathChanged=/lib/modules/%v/modules.dep\nPathChanged=/usr/bin/nvidia-ctk\n\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    base.write("/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env", "# variables of nvidia-cdi-refresh.service\n")
    enable = "".join(
        f"  deb-systemd-helper enable '{unit}' >/dev/null\n"
        for unit in ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")
    )
    base.script(
        "postinst",
        'if [ "$1" = configure ]; then\n'
        "  nvidia-ctk --quiet config --config-file=/etc/nvidia-container-runtime/config.toml --in-place\n"
        f"{enable}fi",
    )
    wanted = f"nvidia-container-toolkit-base (= {TOOLKIT_VERSION}), libnvidia-container-tools (= {TOOLKIT_VERSION})"
    parts.new("nvidia-container-toolkit", TOOLKIT_VERSION, "main", "/", Depends=wanted)
    parts.new("libnvidia-container-tools", TOOLKIT_VERSION, "main", "/")
