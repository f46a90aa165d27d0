"""What a build of a target downloads and how much disk it takes, from the sizes in its locks."""

from __future__ import annotations

from dataclasses import dataclass

from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.layers import tools
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace


@dataclass(frozen=True)
class Growth:
    """Bytes that one byte of a packed file becomes."""

    tree: float
    """in the tree of the finished layers, byte code and the rest of each last block included"""
    form: float
    """in one packed file of the image"""


# Measured. cpu: debian-12's 182 MB of packages hold 719 MB, and with its 968 MB of wheels they make a disk of 5.39 GB
# and forms of 1.59 and 1.33 GB (benchmarks/results/2026-11-27-mkosi.md). nvidia: debian-13-nvidia's 428 MB of packages
# hold 1,391 MB; 8,634 MB of wheels (PyTorch 2.10, TensorFlow 2.21, vLLM 0.19.1) hold 17,058 MB, 329 MB of them Python
# sources; what is in the five largest wheels of TensorFlow's takes 0.96 of their size once zstd has packed it.
GROWTH = {
    "cpu": {"debs": Growth(tree=4.0, form=1.3), "wheels": Growth(tree=4.8, form=1.3)},
    "nvidia": {"debs": Growth(tree=3.3, form=1.3), "wheels": Growth(tree=2.1, form=1.05)},
}
TOOLS_TREE = 4.0
"""the tools tree, in bytes per byte of its packages"""


@dataclass(frozen=True)
class Needs:
    """Bytes."""

    locked: int
    """all files that the locks name"""
    download: int
    """those of them that the store lacks"""
    disk: int
    """free disk that the build needs, downloads included"""


def of(space: Workspace) -> Needs:
    """Compute what a build needs now. Raises VaultCubeError if a lock is missing or damaged."""
    store, settings = Store(space.store), space.settings
    debs = {deb.sha256: deb.size for deb in AptLock.read(space.locks / "apt.lock").debs}
    tool_debs = {deb.sha256: deb.size for deb in tools.lock(space).debs}
    wheels = {
        wheel.sha256: wheel.size
        for name in ("salt", *settings.frameworks.environments)
        for wheel in pylock.read(space.locks / f"python-{name}.lock")
    }
    files = debs | tool_debs | wheels
    download = sum(size for sha256, size in files.items() if not store.has(sha256))
    growth = GROWTH[settings.target.accelerator]
    packed = ((sum(debs.values()), growth["debs"]), (sum(wheels.values()), growth["wheels"]))
    tree = sum(size * each.tree for size, each in packed)
    forms = len(settings.image.formats) * sum(size * each.form for size, each in packed)
    # the disk is as large as the tree, and is there while its forms are packed
    disk = download + tree + forms
    if not all(layer_cache.find(space.layers, key.key) for key in keys.layer_keys(space).values()):
        # a disk of the lower layers is kept as well, but only if there is room for it
        disk += tree
    if tools.find(space) is None:
        disk += sum(tool_debs.values()) * TOOLS_TREE
    return Needs(sum(files.values()), download, int(disk))


def gigabytes(size: int) -> str:
    """Write a size for a person: `7.5 GB`."""
    return f"{size / 1e9:.1f} GB"
