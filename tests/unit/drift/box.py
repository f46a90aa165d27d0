"""A small tree with the parts of a box that drift can touch, its manifest, and states as Salt would report them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import yaml

from vault_cube.drift import manifest
from vault_cube.drift.classes import StateResult
from vault_cube.drift.comparison import Request, compare
from vault_cube.image.layers import image_manifest

ARCHIVE = Path(__file__).parent / "archive"
PILLAR = Path(__file__).parents[3] / "pillar/box.sls"
EPOCH = 1_700_000_000
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPillarPillarPillarPillarPillarPillarPillarP anna@example.org"
SEED_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAISeedSeedSeedSeedSeedSeedSeedSeedSeedSe owner@example.org"

FILES = {
    # written by states
    "etc/ssh/sshd_config.d/00-vault-cube.conf": "PermitRootLogin no\nPasswordAuthentication no\n",
    "etc/sudoers.d/99-vaultadmin": "vaultadmin ALL=(ALL:ALL) NOPASSWD: ALL\n",
    "etc/sysctl.d/99-vault-cube.conf": "kernel.dmesg_restrict = 1\nnet.ipv4.conf.all.rp_filter = 2\n",
    "etc/modules-load.d/vault-cube.conf": "br_netfilter\n",
    "etc/fail2ban/jail.d/vault-cube.conf": "[sshd]\nenabled = true\n",
    "etc/ufw/ufw.conf": "ENABLED=yes\nLOGLEVEL=low\n",
    "etc/ufw/user.rules": "-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n",
    "etc/ufw/after.rules": "-A DOCKER-USER -j ufw-user-forward\n",
    "etc/default/ufw": 'DEFAULT_INPUT_POLICY="DROP"\n',
    "etc/docker/daemon.json": '{"ip": "127.0.0.1", "live-restore": true}\n',
    "etc/systemd/system/vault-cube-disks.service": "[Service]\nExecStart=/usr/bin/true\n",
    "etc/systemd/system/vault-cube-disks.timer": "[Timer]\nOnBootSec=0\n",
    "etc/systemd/journald.conf.d/vault-cube.conf": "[Journal]\nStorage=persistent\n",
    "etc/apt/apt.conf.d/99vault-cube-updates": "// only security\n",
    "etc/apt/sources.list": "deb https://archive.example.org/debian bookworm main\n",
    "etc/apt/preferences.d/00-vault-cube-kernel": "Package: linux-image-*\nPin-Priority: -1\n",
    "etc/udev/rules.d/99-vault-cube-disks.rules": "# links\n",
    "etc/cloud/cloud.cfg.d/zz-vault-cube.cfg": "datasource_list: [NoCloud, None]\n",
    "etc/salt/minion": "include: /opt/vault-cube/checkout/conf/common.conf\n",
    "etc/vault-cube/image.json": '{"name": "box"}\n',
    "etc/vault-cube/monitoring/alerts.yml": "groups: []\n",
    "etc/fstab": "LABEL=root / ext4 defaults 0 1\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "usr/lib/python3/dist-packages/cloudinit/config/cc_vault_cube_apply.py": "def handle():\n    return 1\n",
    "opt/vault-cube/envs/pytorch/lib/torch.py": "import os\n",
    "opt/vault-cube/envs/pytorch/pyvenv.cfg": "home = /usr/bin\n",
    # of packages
    "usr/bin/bash": "bash",
    "usr/bin/sudo": "sudo 1",
    "usr/bin/nano": "nano",
    "usr/bin/less": "less",
    "usr/sbin/sshd": "sshd",
    "usr/lib/x86_64-linux-gnu/security/pam_unix.so": "pam_unix",
    "usr/lib/modules/6.1.0/kernel/net/br_netfilter.ko": "br_netfilter",
    "usr/lib/systemd/system/ssh.service": "[Service]\nExecStart=/usr/sbin/sshd -D\n",
    "usr/lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd\n",
    "usr/lib/sysctl.d/50-default.conf": "kernel.sysrq = 438\n-net.ipv4.conf.*.rp_filter = 2\n",
    "usr/lib/os-release": "ID=debian\n",
    "etc/pam.d/common-auth": "auth required pam_unix.so\n",
    "etc/pam.d/su": "auth sufficient pam_rootok.so\n",
    "etc/sudoers": "Defaults use_pty\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
    "etc/login.defs": "UMASK 022\n",
    "etc/profile": "umask 022\n",
    "etc/bash.bashrc": "PS1=x\n",
    "etc/environment": "",
    "etc/nsswitch.conf": "passwd: files\n",
    "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
    "etc/ld.so.cache": "cache",
    "etc/crypttab": "# none\n",
    "etc/shells": "/bin/bash\n",
    "etc/hostname": "box\n",
    "etc/machine-id": "uninitialized\n",
    "boot/vmlinuz-6.1.0": "kernel",
    "boot/initrd.img-6.1.0": "initrd",
    "root/.bashrc": "# root\n",
    "root/.profile": "# root\n",
    "home/vaultadmin/.bashrc": "# vaultadmin\n",
    "var/spool/cron/README": "cron\n",
    "var/lib/cloud/scripts/README": "scripts\n",
    # what Salt and the program run from
    "opt/vault-cube/checkout/salt/base/ssh.sls": "ssh accepts keys only: file.managed\n",
    "opt/vault-cube/checkout/salt/top.sls": "base: {'*': [validation]}\n",
    "opt/vault-cube/checkout/_modules/drift.py": "def report():\n    return 1\n",
    "opt/vault-cube/checkout/vault_cube/paths.py": 'CHECKOUT = "/opt"\n',
    "opt/vault-cube/checkout/pillar/box.sls": "base: {}\n",
    "opt/vault-cube/checkout/conf/common.conf": "file_client: local\n",
    "opt/vault-cube/salt/lib/python3/site-packages/salt/state.py": "class State:\n    pass\n",
    "opt/vault-cube/salt/bin/salt-call": "#!/opt/vault-cube/salt/bin/python\n",
    "usr/lib/vault-cube/drift": "#!/usr/bin/python3\n",
    "usr/lib/vault-cube/vault_cube/drift/scan.py": "SCAN = 1\n",
    "usr/lib/vault-cube/manifest.gz": "",
}
MODES = {"etc/sudoers.d/99-vaultadmin": 0o440, "usr/bin/sudo": 0o4755, "etc/ufw/user.rules": 0o640,
         "etc/ssh/sshd_config.d/00-vault-cube.conf": 0o600, "etc/sudoers": 0o440}  # fmt: skip
LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "usr/local/bin/salt-call": "/opt/vault-cube/salt/bin/salt-call",
    "etc/localtime": "/usr/share/zoneinfo/Etc/UTC",
    "etc/resolv.conf": "/run/systemd/resolve/stub-resolv.conf",
    "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
    "etc/systemd/system/multi-user.target.wants/ssh.service": "/usr/lib/systemd/system/ssh.service",
    "etc/systemd/system/multi-user.target.wants/docker.service": "/usr/lib/systemd/system/docker.service",
    "etc/systemd/system/timers.target.wants/apt-daily-upgrade.timer": "/usr/lib/systemd/system/apt-daily-upgrade.timer",
    "etc/systemd/system/timers.target.wants/vault-cube-disks.timer": "/etc/systemd/system/vault-cube-disks.timer",
    "etc/alternatives/editor": "/usr/bin/nano",
    "etc/rc2.d/S01docker": "../init.d/docker",
    "etc/rc2.d/S01evil": "../init.d/evil",
}
FOLDERS = ("etc/sudoers.d", "etc/cron.d", "root/.ssh", "home/vaultadmin/.ssh", "var/log", "var/lib/docker", "tmp",
           "etc/motd.d",
    "etc/netplan", "srv", "usr/local/sbin", "var/lib/vault-cube", "opt/vault-cube/checkout/_states")  # fmt: skip
TABLES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nvaultadmin:x:1000:1000::/home/vaultadmin:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\nvaultadmin:!:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
    "etc/group": "root:x:0:\nsudo:x:27:vaultadmin\ndocker:x:998:vaultadmin\nvaultadmin:x:1000:\n",
    "etc/gshadow": "root:*::\nsudo:*::vaultadmin\ndocker:!::vaultadmin\nvaultadmin:!::\n",
    "etc/subuid": "vaultadmin:100000:65536\n",
}
PACKAGES = {
    "bash": ("5.2.15-2+b2", ("usr/bin/bash", "etc/bash.bashrc")),
    "sudo": ("1.9.13p3-1+deb12u1", ("usr/bin/sudo", "etc/sudoers")),
    "nano": ("7.2-1", ("usr/bin/nano",)),
    "less": ("590-2", ("usr/bin/less",)),
    "openssh-server": ("1:9.2p1-2", ("usr/sbin/sshd", "lib/systemd/system/ssh.service")),
}
CONFFILES = ("etc/bash.bashrc", "etc/sudoers")
STATES = {
    **dict.fromkeys(list(FILES)[:21], "file.managed"),
    "etc/fstab": "shared.block",
    "etc/hosts": "shared.hosts",
    "etc/docker/daemon.json": "shared.json_object",
    "usr/lib/python3/dist-packages/cloudinit/config/cc_vault_cube_apply.py": "file.managed",
    "usr/local/bin/salt-call": "file.symlink",
    "etc/sudoers.d": "file.directory",
    "home/vaultadmin/.ssh": "file.directory",
    "opt/vault-cube/envs/pytorch": "uv.environment",
    # not in the image: switched on by the owner's pillar, or removed
    "opt/own-agent/etc/agent.conf": "file.managed",
    "opt/old-agent/etc": "file.absent",
}
"""Path → function of the state that writes it."""
UNITS = {"ssh.service": True, "docker.service": True, "vault-cube-disks.timer": True, "debug-shell.service": False}
"""Units that states enable or disable."""
PILLAR_PACKAGES = ("nano", "sudo")


def make(root: Path) -> None:
    """Write the tree of a pristine image."""
    for path, text in {**FILES, **TABLES}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(MODES.get(path, 0o640 if path in ("etc/shadow", "etc/gshadow") else 0o644))
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for path, target in LINKS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    for name in ("bash", "salt-call"):
        for path in (f"usr/bin/{name}", f"opt/vault-cube/salt/bin/{name}"):
            if (root / path).exists():
                (root / path).chmod(0o755)
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    for name in PACKAGES:
        write_package(root, name, PACKAGES[name][0])
    write_status(root, {name: version for name, (version, _) in PACKAGES.items()})
    lists = root / "var/lib/apt/lists"
    (root / "usr/share/keyrings").mkdir(parents=True)
    lists.mkdir(parents=True)
    shutil.copy(ARCHIVE / "archive.gpg", root / "usr/share/keyrings")
    prefix = "archive.example.org_debian_dists_stable-security_"
    shutil.copy(ARCHIVE / "InRelease", lists / f"{prefix}InRelease")
    shutil.copy(ARCHIVE / "Packages", lists / f"{prefix}main_binary-amd64_Packages")
    seed = root / "var/lib/cloud/instance"
    seed.mkdir(parents=True)
    files = "write_files: [{path: /etc/motd.d/owner}]"
    user_data = f"#cloud-config\nusers: [{{name: bert}}]\n{files}\nssh_authorized_keys: ['{SEED_KEY}']\n"
    (seed / "user-data.txt").write_text(user_data)
    (root / "home/vaultadmin/.ssh/authorized_keys").write_text(f"{SEED_KEY}\n")
    (root / "home/vaultadmin/.ssh/authorized_keys2").write_text(f"{KEY}\n")


def write_package(root: Path, name: str, version: str) -> None:
    """Write dpkg's records of a package from the files in the tree."""
    info, paths = root / "var/lib/dpkg/info", PACKAGES[name][1]
    folders = sorted({f"/{parent}" for path in paths for parent in Path(path).parents if str(parent) != "."})
    (info / f"{name}.list").write_text("".join(f"{path}\n" for path in ("/.", *folders, *(f"/{p}" for p in paths))))
    sums = (f"{_md5(root / path)}  {path}\n" for path in paths if path not in CONFFILES)
    (info / f"{name}.md5sums").write_text("".join(sums))


def write_status(root: Path, versions: dict[str, str]) -> None:
    """Write dpkg's status file."""
    stanzas = []
    for name, version in versions.items():
        own = [path for path in PACKAGES.get(name, ("", ()))[1] if path in CONFFILES]
        conffiles = "".join(f"\n /{path} {_md5(root / path)}" for path in own)
        stanzas.append(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
            + (f"Conffiles:{conffiles}\n" if own else "") + "Description: test\n of a package\n"
        )  # fmt: skip
    (root / "var/lib/dpkg/status").write_text("\n".join(stanzas))


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def write_manifest(root: Path, target: Path) -> None:
    """Write the manifest of the tree, with the pillar's own list of expected paths."""
    merged = image_manifest.merge([root], [image_manifest.layer_lines(root)])
    del merged[manifest.PLACE]
    owners = image_manifest.owners_of_files(merged, lambda path: (root / path).read_text())
    drift: dict[str, Any] = yaml.safe_load(PILLAR.read_text())["validation"]["drift"]
    header: manifest.Header = {
        "format": manifest.FORMAT, "name": "box", "version": "1.0.0", "target": "debian-12", "epoch": EPOCH,
        "layers": ["root"], "cmdline": "root=PARTUUID=x ro quiet",
        "packages": {f"{name}:amd64": version for name, (version, _) in PACKAGES.items()},
        "tables": TABLES, "expected": drift["expected"], "listen": ["tcp 22", *drift["listen"]],
        "states": {f"/{path}": f"state: {path}" for path in STATES}, "signers": [],
    }  # fmt: skip
    entries = (entry._replace(package=owners.get(path, "")) for path, entry in sorted(merged.items()))
    target.write_bytes(gzip.compress(manifest.text(header, entries).encode(), mtime=0))


def salt_would(pristine: Path, root: Path) -> list[StateResult]:
    """Return what Salt would report of the tree under test=True. Not Salt: a model of how these states compare.

    File states compare type, content, mode and owner; shared states only that our lines are there.
    """
    results = []
    for path, function in STATES.items():
        before, after = pristine / path, root / path
        there = os.path.lexists(before) or os.path.lexists(after)
        differs = there and function != "uv.environment" and _differs(before, after, function)
        if function == "uv.environment":
            differs = _names(before) != _names(after)  # uv compares sizes and times, not all content
        results.append(result(f"state: {path}", function, f"/{path}", differs))
    for unit, wanted in UNITS.items():
        # glob leaves out links that lead nowhere, as these do
        wants = (root / "etc/systemd/system").glob("*.wants")
        links = [folder for folder in wants if (folder / unit).is_symlink()]
        masked = (root / "etc/systemd/system" / unit).is_symlink()
        function = "unit.enabled" if wanted else "unit.disabled"
        state = f"{unit} is {'on' if wanted else 'off'}"
        results.append(result(state, function, unit, bool(links) != wanted or masked))
    status = (root / "var/lib/dpkg/status").read_text()
    missing = [name for name in PILLAR_PACKAGES if f"Package: {name}\n" not in status]
    results.append(result("packages are installed", "packages.installed", "packages", bool(missing), " ".join(missing)))
    groups = _rows(root / "etc/group")
    wrong = ["shell"] * (_rows(root / "etc/passwd").get("vaultadmin") != _rows(pristine / "etc/passwd")["vaultadmin"])
    wrong += ["groups"] * any("vaultadmin" not in groups.get(name, [""])[-1] for name in ("sudo", "docker"))
    results.append(result("vaultadmin has an account", "user.present", "vaultadmin", bool(wrong), " ".join(wrong)))
    return results


def result(state: str, function: str, name: str, differs: bool, would: str = "") -> StateResult:
    return {"state": state, "function": function, "name": name, "differs": differs, "failed": False,
            "would": f"would be changed {would}" if differs else would}  # fmt: skip


def _rows(file: Path) -> dict[str, list[str]]:
    return {line.split(":")[0]: line.split(":") for line in file.read_text().splitlines()}


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _differs(before: Path, after: Path, function: str) -> bool:
    try:
        old, new = before.lstat(), after.lstat()
    except OSError:
        return True
    if stat.S_IFMT(old.st_mode) != stat.S_IFMT(new.st_mode):
        return True
    if function == "file.symlink":
        return before.readlink() != after.readlink()
    if (old.st_mode, old.st_uid, old.st_gid) != (new.st_mode, new.st_uid, new.st_gid):
        return not function.startswith("shared.")
    if function == "file.directory":
        return False
    text, wanted = after.read_text(errors="replace"), before.read_text()
    return wanted.strip() not in text if function.startswith("shared.") else text != wanted


def report(root: Path, states: list[StateResult] | None, **options: Any) -> dict[str, Any]:
    """Compare the tree as `drift.report` does."""
    return compare(Request(root, root.parent / "manifest.gz", states=states, keys=[KEY], use_index=False, **options))


def listed(result: dict[str, Any]) -> str:
    """Return the findings as text, for the message of a failed assertion."""
    return json.dumps(result["findings"], indent=1)


def is_root() -> bool:
    """Whether files can be given to other users."""
    return os.geteuid() == 0
