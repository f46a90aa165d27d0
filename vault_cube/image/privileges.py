"""Checks that this process may do what a build does: mounts, device nodes, owners and the boot test's network.

Each check runs the very commands of the build on an empty tree, and explains the first one that fails.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from vault_cube import verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import machine
from vault_cube.image.layers import chroot
from vault_cube.image.workspace import Workspace

CONTAINER = (
    "run it as root of the machine itself, or in a container with the privileges of root (podman or docker run "
    "--privileged as root; a privileged LXC): rootless containers cannot build images"
)
ELSEWHERE = "set VAULT_CUBE_CACHE to a folder on ext4, xfs or btrfs, mounted without noexec"

# what a build does with a mounted layer: delete and replace files of lower layers, set owners, run programs
USE = (
    "rm {merged}/file",
    "rm -r {merged}/folder && mkdir {merged}/folder",
    "touch {merged}/new && chown 1000:1000 {merged}/new",
    "{merged}/program && lower/program",  # QEMU runs from the tools tree itself
    "ln {merged}/program {merged}/link",
)


def can_build(space: Workspace) -> str:
    """Check mounts, device nodes and the file system of the cache, with the commands that enter a tree."""
    if os.geteuid() != 0:
        raise verdicts.NotApplicable("only root can make mounts and device nodes")
    try:
        space.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=space.cache) as folder:
            error = _try_tree(Path(folder))
    except OSError as err:
        raise VaultCubeError(f"{space.cache}: cannot write here ({err.strerror}): {ELSEWHERE}") from None
    if error:
        raise VaultCubeError(_explained(space.cache, error))
    return "mounts, device nodes and owners work"


def _try_tree(folder: Path, *before: str) -> str:
    """Make, mount and use a small tree as a build does. Returns the error output; empty on success.

    before: shell commands that run first, in the same namespaces.
    """
    merged = folder / "merged"
    overlay = chroot.Overlay([folder / "lower"], folder / "upper", folder / "work")
    script = [
        *before,
        f"cd {shlex.quote(str(folder))}",
        "mkdir -p upper work merged lower/folder/below lower/proc lower/sys lower/run lower/tmp lower/dev",
        "touch lower/file && echo '#!/bin/sh' >lower/program && chmod 755 lower/program",
        *chroot.mounts(overlay, merged),
        f"cd {shlex.quote(str(folder))}",
        *(line.format(merged=shlex.quote(str(merged))) for line in USE),
    ]
    ran = subprocess.run(
        [*chroot.unshare(network=False), "sh", "-euc", "\n".join(script)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (ran.stderr.strip() or f"status {ran.returncode}") if ran.returncode else ""


def _explained(cache: Path, error: str) -> str:
    """Return the message for a failed command: its error, and a remedy that fits the cause."""
    # after a failed mount, mount(8) refers to dmesg
    first = next(line.strip() for line in reversed(error.splitlines()) if "dmesg(1)" not in line)
    if error.startswith("unshare:") or _lacks("CAP_SYS_ADMIN"):
        return f"this process may not make namespaces and mounts ({first}), which needs CAP_SYS_ADMIN: {CONTAINER}"
    if "mknod:" in error:
        where = "in a user namespace" if in_user_namespace() else "without CAP_MKNOD"
        return f"this process may not make device nodes ({first}), {where}: {CONTAINER}"
    if "chown:" in error and in_user_namespace():
        return f"this process may not set owners of files ({first}), in a user namespace with few ids: {CONTAINER}"
    if "mount:" in error or "overlay" in error:
        # the same on a tmpfs: if that works, it is the file system, else the kernel or a security module
        with tempfile.TemporaryDirectory() as folder:
            elsewhere = _try_tree(Path(folder), f"mount -t tmpfs tmpfs {shlex.quote(folder)}")
        if elsewhere:
            return f"this process may not mount what a build mounts ({first}), on no file system: {CONTAINER}"
    kind = _file_system(cache)
    return f"{cache}: a build cannot use this file system{kind and f', {kind}'} ({first}): {ELSEWHERE}"


def can_boot(space: Workspace) -> str:
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
    ran = subprocess.run(
        machine.in_own_network(["true"]), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        error = (ran.stderr.strip() or f"status {ran.returncode}").splitlines()[-1]
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
    ran = subprocess.run(
        ["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False, env={"PATH": chroot.PATH}
    )
    return ran.stdout.strip()
