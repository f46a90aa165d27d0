"""The tools tree: a small pinned Debian 13 whose mmdebstrap, mkfs, ukify and qemu do the same on every machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.layers import chroot, repository, seal
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import log_tail
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace

LAYER = "tools"


def lock(space: Workspace) -> AptLock:
    """The tools' own lock; one tools tree serves all targets."""
    return AptLock.read(space.tools_lock)


def find(space: Workspace) -> layer_cache.Entry | None:
    return layer_cache.find(space.layers, keys.tools_key(space).key)


def tree(space: Workspace) -> Path:
    """The finished tools tree. Raises VaultCubeError when `image.tools` has not been run."""
    entry = find(space)
    if entry is None:
        raise VaultCubeError("the tools tree is missing: run `salt-call image.tools`")
    return entry.tree


def make(space: Workspace) -> layer_cache.Entry:
    """Build the tools tree from the store with this machine's mmdebstrap; what it holds comes from the lock alone."""
    locked, key = lock(space), keys.tools_key(space)
    log = space.logs / "tools.log"
    log.unlink(missing_ok=True)
    with space.scratch(LAYER) as work:
        repository.make(Store(space.store), locked.debs, work / "repo", space.settings.image.tools.codename)
        (work / "tmp").mkdir()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            status = subprocess.run(
                [
                    *chroot.unshare(network=False),
                    "env",
                    "-i",
                    f"PATH={chroot.PATH}",
                    f"SOURCE_DATE_EPOCH={locked.epoch}",
                    # not this machine's /tmp, where a killed run would leave them
                    f"TMPDIR={work / 'tmp'}",
                    *mmdebstrap(
                        [deb.name for deb in locked.debs],
                        space.settings.image.tools.codename,
                        work / "tree",
                        work / "repo",
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
            ).returncode
        if status:
            raise VaultCubeError(f"mmdebstrap failed on the tools tree; the end of {log}:\n{log_tail(log)}")
        seal.seal(work / "tree", locked.epoch)
        return layer_cache.keep(space.layers, key.key, work / "tree", LAYER, key.inputs)


def mmdebstrap(packages: Sequence[str], codename: str, target: Path | str, repo: Path | str) -> list[str]:
    """The command that makes a root tree of a local repository: exactly its packages, configured."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--include=" + ",".join(packages),
        "--aptopt=Acquire::Languages none",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=APT::Sandbox::User root",
        "--dpkgopt=force-unsafe-io",
        # mmdebstrap copies the first two from the building machine; the third names the scratch folder
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"; : > "$1/etc/apt/sources.list"',
        codename,
        str(target),
        f"deb [trusted=yes] copy:{repo} ./",
    ]
