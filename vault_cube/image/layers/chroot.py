"""Run commands in a tree, in new mount, pid, ipc, uts and (by default) network namespaces.

All mounts are in the command's mount namespace, and all its processes end with this process. So nothing is left behind,
even after SIGKILL.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.progress import log_tail

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = {"null": "1 3", "zero": "1 5", "full": "1 7", "random": "1 8", "urandom": "1 9", "tty": "5 0"}


@dataclass(frozen=True)
class Bind:
    """A folder or file of the host that is mounted in the tree."""

    source: Path
    target: str
    """Absolute path in the tree: below /run or /tmp, which are temporary, or an existing path."""
    writable: bool = False


@dataclass(frozen=True)
class Overlay:
    """An overlay mount of finished layers."""

    lower: Sequence[Path]
    """The folders of the layers, bottom first."""
    upper: Path | None = None
    """The folder that receives all changes; None if the tree is read-only."""
    work: Path | None = None
    """An empty folder for overlayfs, on the file system of `upper`."""


class CommandFailed(VaultCubeError):
    """A command in a tree failed; `log` contains its output."""

    def __init__(self, what: str, status: int, log: Path | None) -> None:
        self.status, self.log = status, log
        super().__init__(
            f"{what} failed with status {status}" + (f"; the end of {log}:\n{log_tail(log)}" if log else "")
        )


def run(
    tree: Path | Overlay,
    command: Sequence[str | Path],
    *,
    what: str,
    log: Path | None,
    mountpoint: Path | None = None,
    binds: Sequence[Bind] = (),
    overlays: Mapping[str, Overlay] | None = None,
    environment: Mapping[str, str] | None = None,
    network: bool = False,
    check: bool = True,
) -> int:
    """Run a command in a tree, with a new /run, /tmp and /dev. Returns its exit status.

    what: name of the command in errors. log: file for its output; None: it uses the current terminal.
    mountpoint: an empty folder, required if the tree is an overlay. overlays: further trees by their path below /run.
    Raises CommandFailed if `check` is true and the status is not 0.
    """
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    root = tree if isinstance(tree, Path) else mountpoint
    if root is None:
        raise ValueError("an overlay needs a mountpoint")
    script = mounts(tree, root, binds)
    for target, overlay in (overlays or {}).items():
        inside = shlex.quote(target.lstrip("/"))
        script += [f"mkdir -p {inside}", *_mount(overlay, inside)]
    variables = {
        "PATH": PATH,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "DEBIAN_FRONTEND": "noninteractive",
        "TERM": "dumb",
        **(environment or {}),
    }
    inner = ["env", "-i", *(f"{key}={value}" for key, value in variables.items()), *map(str, command)]
    script.append("umask 022")
    script.append(f"exec chroot {shlex.quote(str(root))} {shlex.join(inner)}")
    with log.open("ab") if log else nullcontext() as out:
        status = subprocess.run(
            [*unshare(network), "sh", "-euc", "\n".join(script)],
            stdin=subprocess.DEVNULL if log else None,
            stdout=out,
            stderr=out,
            check=False,
        ).returncode
    if check and status:
        raise CommandFailed(what, status, log)
    return status


def mounts(tree: Path | Overlay, root: Path, binds: Sequence[Bind] = ()) -> list[str]:
    """Return the shell commands that mount a tree at `root`, with its /proc, /sys, /run, /tmp, /dev and binds."""
    at = shlex.quote(str(root))
    return [*_mount(tree, at), *_inside(at, binds)]


def unshare(network: bool) -> list[str]:
    """Return the command line prefix that runs a command in new namespaces and kills it when this process ends."""
    flags = ["--mount", "--pid", "--fork", "--ipc", "--uts", "--kill-child", "--propagation", "private"]
    # PR_SET_PDEATHSIG is racy: if the builder died before it took effect, the parent has changed, so do not start
    alive = ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]
    return ["setpriv", "--pdeathsig", "KILL", *alive, "unshare", *flags, *([] if network else ["--net"])]


def _mount(tree: Path | Overlay, at: str) -> list[str]:
    """Return the shell commands that mount a tree at a path."""
    if isinstance(tree, Path):
        return [f"mount --bind {at} {at}"]
    options = ["lowerdir=" + ":".join(str(layer) for layer in reversed(tree.lower))]
    if tree.upper and tree.work:
        # turn off the features by which a layer's content depends on how it was mounted
        options += [
            f"upperdir={tree.upper}",
            f"workdir={tree.work}",
            "xino=off,metacopy=off,redirect_dir=off,index=off",
        ]
    return [f"mount -t overlay overlay -o {shlex.quote(','.join(options))} {at}"]


def _inside(at: str, binds: Sequence[Bind]) -> list[str]:
    """Return the shell commands that mount /proc, /sys, /run, /tmp, /dev and all binds in a mounted tree."""
    script = [
        "hostname vault-cube",
        f"cd {at}",
        "mount -t proc proc proc",
        "mount -t sysfs -o ro sysfs sys 2>/dev/null || mount -t tmpfs -o ro tmpfs sys",
        "mount -t tmpfs -o mode=755 tmpfs run",
        "mount -t tmpfs -o mode=1777 tmpfs tmp",
        "mount -t tmpfs -o mode=755 tmpfs dev",
        *(f"mknod -m 666 dev/{name} c {number}" for name, number in DEVICES.items()),
        "mkdir dev/pts dev/shm && ln -s pts/ptmx dev/ptmx",
        "mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts",
        "mount -t tmpfs -o mode=1777 tmpfs dev/shm && ln -s /proc/self/fd dev/fd",
        "ln -s /proc/self/fd/0 dev/stdin && ln -s /proc/self/fd/1 dev/stdout && ln -s /proc/self/fd/2 dev/stderr",
        "mkdir -p run/lock && chmod 1777 run/lock",
    ]
    for bind in binds:
        source, target = shlex.quote(str(bind.source)), shlex.quote(bind.target.lstrip("/"))
        # a target outside the tmpfs mounts must already exist: creating it would change the tree
        script.append(
            f"mkdir -p {target}" if bind.source.is_dir() else f'mkdir -p "$(dirname {target})" && touch {target}'
        )
        script.append(
            f"mount --bind {source} {target}" + ("" if bind.writable else f" && mount -o remount,ro,bind {target}")
        )
    return script
