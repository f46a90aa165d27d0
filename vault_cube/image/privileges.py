"""Checks that this process may do what a build does: mounts, device nodes, owners and the boot test's network.

Each check runs the very commands of the build on an empty tree, and explains the first one that fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from vault_cube import process, verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import machine
from vault_cube.image.layers import chroot

CONTAINER = (
    "run it as root of the machine itself, or in a container with the privileges of root (podman or docker run "
    "--privileged as root; a privileged LXC): rootless containers cannot build images"
)
MEMORY = "/dev/shm"  # noqa: S108 a folder in memory, not a fixed name
ELSEWHERE = "set VAULT_CUBE_CACHE to a folder on ext4, xfs or btrfs, mounted without noexec"

# what a build does with a mounted layer: delete and replace files of lower layers, set owners, run programs
USE = """
rm /file
rm -r /folder && mkdir /folder
touch /new && chown 1000:1000 /new
/program
ln /program /link
"""


def can_build(cache: Path) -> str:
    """Check mounts, device nodes and the file system of the cache, with the commands that enter a tree."""
    if os.geteuid() != 0:
        raise verdicts.NotApplicable("only root can make mounts and device nodes")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            error = _try_tree(Path(folder))
    except OSError as err:
        raise VaultCubeError(f"{cache}: cannot write here ({err.strerror}): {ELSEWHERE}") from err
    if error:
        raise VaultCubeError(_explained(cache, error))
    return "mounts, device nodes and owners work"


def _try_tree(folder: Path) -> str:
    """Make a small tree, enter it with the function of a build, and use it. Returns the last error; empty if none."""
    lower, log = folder / "lower", folder / "log"
    for name in ("upper", "work", "merged", "lower/folder/below", *(f"lower/{at}" for at in MOUNTPOINTS)):
        (folder / name).mkdir(parents=True)
    # the programs of this machine, which are in /usr, are the tree's
    for name in ("bin", "lib", "lib64", "sbin"):
        (lower / name).symlink_to(f"usr/{name}")
    (lower / "usr").symlink_to("run/usr")
    (lower / "file").touch()
    (lower / "program").write_text("#!/bin/sh\n")
    (lower / "program").chmod(0o755)
    overlay = chroot.Overlay([lower], folder / "upper", folder / "work")
    status = chroot.run(
        overlay,
        ["sh", "-euc", USE],
        what="preflight",
        log=log,
        mountpoint=folder / "merged",
        binds=[chroot.Bind(Path("/usr"), "/run/usr")],
        check=False,
    )
    if status:
        # the first line is the command; after a failed mount, mount(8) refers to dmesg
        lines = [line.strip() for line in log.read_text().splitlines()[1:] if "dmesg(1)" not in line]
        return lines[-1] if lines else f"status {status}"
    try:
        # QEMU and the loader run from the tools tree itself
        process.run([lower / "program"])
    except process.CommandFailed as err:
        return str(err)
    return ""


MOUNTPOINTS = ("proc", "sys", "run", "tmp", "dev")


def _explained(cache: Path, error: str) -> str:
    """Return the message for a failed command: its error, and a remedy that fits the cause."""
    if error.startswith("unshare:") or _lacks("CAP_SYS_ADMIN"):
        return f"this process may not make namespaces and mounts ({error}), which needs CAP_SYS_ADMIN: {CONTAINER}"
    if "mknod:" in error:
        where = "in a user namespace" if in_user_namespace() else "without CAP_MKNOD"
        return f"this process may not make device nodes ({error}), {where}: {CONTAINER}"
    if "chown:" in error and in_user_namespace():
        return f"this process may not set owners of files ({error}), in a user namespace with few ids: {CONTAINER}"
    if "mount:" in error or "overlay" in error:
        # the same in memory: if that works, it is the file system, else the kernel or a security module
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            elsewhere = _try_tree(Path(folder))
        if elsewhere:
            return f"this process may not mount what a build mounts ({error}), on no file system: {CONTAINER}"
    kind = _file_system(cache)
    return f"{cache}: a build cannot use this file system{kind and f', {kind}'} ({error}): {ELSEWHERE}"


def can_boot() -> str:
    """Check the network of the boot test: a namespace with a bridge and two tap devices."""
    if os.geteuid() != 0:
        raise verdicts.NotApplicable("only root can make the boot test's network")
    if not shutil.which("ip", path=chroot.PATH):
        raise verdicts.NotApplicable("`ip` is missing")
    if not Path("/dev/net/tun").exists():
        raise VaultCubeError(
            "/dev/net/tun is missing, which the boot test needs: `modprobe tun`; in a container, pass the device "
            "(--device /dev/net/tun)"
        )
    ran = process.run(machine.in_own_network(["true"]), ok=None)
    if ran.returncode:
        error = process.last_line(ran.stderr) or f"status {ran.returncode}"
        lacking = ", ".join(name for name in ("CAP_SYS_ADMIN", "CAP_NET_ADMIN") if _lacks(name))
        needs = f"which needs {lacking}: {CONTAINER}" if lacking else "load the kernel modules tun and bridge"
        raise VaultCubeError(f"this process may not make the boot test's network ({error}): {needs}")
    return "the boot test's network works"


def in_user_namespace() -> bool:
    """Return whether this process is in a user namespace that is not the machine's first."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
"""Bits of the masks in /proc/self/status: capabilities(7), include/uapi/linux/capability.h."""


def _lacks(capability: str) -> bool:
    """Return whether this process does not have a capability; False if that cannot be read."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    mask = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), -1)
    return not mask >> CAPABILITIES[capability] & 1


def _file_system(folder: Path) -> str:
    """Return the type of a folder's file system, such as nfs4; empty if unknown."""
    return process.run(["stat", "-f", "-c", "%T", folder], ok=None).stdout.strip()
