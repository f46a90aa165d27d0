"""The tools tree: a small locked Debian 13 whose mmdebstrap, mke2fs, ukify and QEMU give the same result everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.layers import chroot, repository, seal
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace

LAYER = "tools"


def find(space: Workspace) -> layer_cache.Entry | None:
    """Return the cache entry of the up-to-date tools tree, or None."""
    return layer_cache.find(space.layers, keys.tools_key(space).key)


def tree(space: Workspace) -> Path:
    """Return the folder of the up-to-date tools tree. Raises VaultCubeError if it is not in the cache."""
    entry = find(space)
    if entry is None:
        raise VaultCubeError(
            f"{space.layers}: no up-to-date tools tree: run `salt-call image.tools`, as the user who builds"
        )
    return entry.tree


def make(space: Workspace, locked: AptLock) -> layer_cache.Entry:
    """Build the tools tree with this machine's mmdebstrap from locked packages only. Returns its cache entry."""
    key = keys.tools_key(space)
    log = space.logs / "tools.log"
    log.unlink(missing_ok=True)
    with space.scratch(LAYER) as work:
        repository.make(Store(space.store), locked.debs, work / "repo", space.settings.image.tools.codename)
        (work / "tmp").mkdir()
        codename = space.settings.image.tools.codename
        process.run(
            [
                *chroot.unshare(network=False),
                *mmdebstrap([deb.name for deb in locked.debs], codename, work / "tree", work / "repo"),
            ],
            purpose="tools tree",
            # a killed run would leave temporary files in /tmp
            env={"PATH": chroot.PATH, "SOURCE_DATE_EPOCH": str(locked.epoch), "TMPDIR": str(work / "tmp")},
            log=log,
        )
        seal.seal(work / "tree", locked.epoch)
        return layer_cache.keep(space.layers, key.key, work / "tree", LAYER, key.inputs)


def mmdebstrap(packages: Sequence[str], codename: str, target: Path | str, repo: Path | str) -> list[str]:
    """Return the command that installs and configures exactly `packages` from a local repository in a new tree."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--include=" + ",".join(packages),
        "--aptopt=Acquire::Languages none",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=APT::Sandbox::User root",
        "--dpkgopt=force-unsafe-io",
        # mmdebstrap copies the first two files from this machine; the third contains the path of the scratch folder
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"; : > "$1/etc/apt/sources.list"',
        codename,
        str(target),
        f"deb [trusted=yes] copy:{repo} ./",
    ]
