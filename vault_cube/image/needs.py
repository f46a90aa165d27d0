"""Estimate the download size and the disk space of a build from the file sizes in its locks."""

from __future__ import annotations

from dataclasses import dataclass

from vault_cube.image.attest import finished
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import tools
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace


@dataclass(frozen=True)
class Growth:
    """Space that one byte of a .deb or wheel takes in a build, in bytes."""

    tree: float
    """Bytes in the tree of all layers, including byte code and the unused part of each file's last block."""
    packed: float
    """Bytes in one packed format of the image."""


# Measured. cpu: the 182 MB of packages of debian-12 unpack to 719 MB; with its 968 MB of wheels they make a disk of
# 5.39 GB, packed as 1.59 and 1.33 GB (benchmarks/results/2026-11-27-mkosi.md). nvidia: the 428 MB of packages of
# debian-13-nvidia unpack to 1,391 MB; 8,634 MB of wheels (PyTorch 2.10, TensorFlow 2.21, vLLM 0.19.1) unpack to
# 17,058 MB, of which 329 MB are Python sources; the contents of TensorFlow's five largest wheels, packed with zstd,
# take 0.96 of the wheels' size.
GROWTH = {
    "cpu": {"debs": Growth(tree=4.0, packed=1.3), "wheels": Growth(tree=4.8, packed=1.3)},
    "nvidia": {"debs": Growth(tree=3.3, packed=1.3), "wheels": Growth(tree=2.1, packed=1.05)},
}
TOOLS_TREE = 4.0
"""Bytes of the tools tree per byte of its packages."""


@dataclass(frozen=True)
class Needs:
    """The download size and disk space of a build, in bytes."""

    locked: int
    """Size of all locked files."""
    download: int
    """Size of the locked files that the store lacks."""
    disk: int
    """Free disk space that the build needs, including the downloads."""


def of(space: Workspace, inputs: Inputs) -> Needs:
    """Estimate the needs of a build in its current state: of the stages that are left."""
    store, settings = Store(space.store), space.settings
    debs = {deb.sha256: deb.size for deb in inputs.packages.debs}
    tool_debs = {deb.sha256: deb.size for deb in inputs.tools.debs}
    wheels = {wheel.sha256: wheel.size for wheels in inputs.wheels.values() for wheel in wheels}
    files = debs | tool_debs | wheels
    download = sum(size for sha256, size in files.items() if not store.has(sha256))
    growth = GROWTH[settings.target.accelerator]
    tree = sum(debs.values()) * growth["debs"].tree + sum(wheels.values()) * growth["wheels"].tree
    packed = sum(debs.values()) * growth["debs"].packed + sum(wheels.values()) * growth["wheels"].packed
    disk = download + _missing_layers(space, inputs)
    if not (finished.proven(space, inputs) or finished.unproven(space, inputs)):
        # the disk is as large as the tree, and both it and its packed formats exist at the same time; only vhdx is not
        # compressed
        disk += tree + sum(tree if form == "vhdx" else packed for form in settings.image.formats)
    if tools.find(space) is None:
        disk += sum(tool_debs.values()) * TOOLS_TREE
    return Needs(sum(files.values()), download, int(disk))


def _missing_layers(space: Workspace, inputs: Inputs) -> float:
    """Estimate the size of the layers that are not in the cache, in bytes."""
    growth = GROWTH[space.settings.target.accelerator]
    size = 0.0
    seen: set[str] = set()
    for layer, key in inputs.keys.items():
        # a file of several environments is in the tree once
        names = [name for name in inputs.wheels if (keys.ROOT if name == "salt" else "frameworks") == layer]
        wheels = {wheel.sha256: wheel.size for name in names for wheel in inputs.wheels[name]}
        new = sum(wheels[sha256] for sha256 in wheels.keys() - seen)
        seen |= wheels.keys()
        if layer_cache.find(space.layers, key.key) is None:
            debs = sum(deb.size for deb in inputs.packages.of(layer))
            size += debs * growth["debs"].tree + new * growth["wheels"].tree
    return size


def gigabytes(size: int) -> str:
    """Format a size in bytes as gigabytes, such as `7.5 GB`."""
    return f"{size / 1e9:.1f} GB"
