"""Run commands in a tree, in new mount, pid, ipc, uts and (by default) network namespaces.

All mounts are in the command's mount namespace, and all its processes end with this process. So nothing is left behind,
even after SIGKILL.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vault_cube import process

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPT = Path(__file__).with_name("chroot.sh")


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
    root = tree if isinstance(tree, Path) else mountpoint
    if root is None:
        raise ValueError("an overlay needs a mountpoint")
    variables = {
        "PATH": PATH,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "DEBIAN_FRONTEND": "noninteractive",
        "TERM": "dumb",
        **(environment or {}),
    }
    mounts: list[str | Path] = [root, "" if isinstance(tree, Path) else mount_options(tree)]
    for bind in binds:
        mounts += ["bind", "rw" if bind.writable else "ro", bind.source, bind.target.lstrip("/")]
    for target, overlay in (overlays or {}).items():
        mounts += ["overlay", mount_options(overlay), target.lstrip("/")]
    inner = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
    status = process.run(
        [*unshare(network), "sh", SCRIPT, *mounts, "--", *inner],
        log=log,
        capture=False,
        interactive=log is None,
        ok=None,
    ).returncode
    if check and status:
        end = f"; the end of {log}:\n{process.log_tail(log)}" if log else ""
        raise process.CommandFailed(f"{what} failed with status {status}{end}", status)
    return status


def block_daemons(upper: Path) -> None:
    """Write a policy into an overlay's folder that keeps packages from starting daemons; `seal` removes it."""
    policy = upper / "usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def unshare(network: bool) -> list[str]:
    """Return the command line prefix that runs a command in new namespaces and kills it when this process ends."""
    flags = ["--mount", "--pid", "--fork", "--ipc", "--uts", "--kill-child", "--propagation", "private"]
    # PR_SET_PDEATHSIG is racy: if the builder died before it took effect, the parent has changed, so do not start
    alive = ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]
    return ["setpriv", "--pdeathsig", "KILL", *alive, "unshare", *flags, *([] if network else ["--net"])]


def mount_options(overlay: Overlay) -> str:
    """Return the mount options of an overlay."""
    options = ["lowerdir=" + ":".join(str(layer) for layer in reversed(overlay.lower))]
    if overlay.upper and overlay.work:
        # turn off the features by which a layer's content depends on how it was mounted
        options += [
            f"upperdir={overlay.upper}",
            f"workdir={overlay.work}",
            "xino=off,metacopy=off,redirect_dir=off,index=off",
        ]
    return ",".join(options)
