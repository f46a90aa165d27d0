"""The finished image of a target: its key, and whether the files in dist/ or in the build folder are up to date."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vault_cube import __version__
from vault_cube.carried import sources
from vault_cube.errors import VaultCubeError
from vault_cube.image.attest import manifest
from vault_cube.image.attest.manifest import Manifest
from vault_cube.image.cache import keys
from vault_cube.image.disk import formats
from vault_cube.image.inputs import Inputs
from vault_cube.image.progress import note
from vault_cube.image.workspace import Workspace

FINISH = ("vault_cube/image/disk", "vault_cube/image/attest")
"""Folders of the code that makes an image's files from finished layers; part of the image's key."""


def image_key(space: Workspace, inputs: Inputs) -> str:
    """Return the key of the finished image, a digest of its layers, the disk's settings and the code in FINISH."""
    settings = space.settings.image
    parts = [
        inputs.keys[keys.ORDER[-1]].key,
        settings.disk.model_dump_json(),
        settings.formats,
        formats.made_by(),
        *(keys.file_digest(file) for folder in FINISH for file in sorted(sources(space.checkout / folder))),
        __version__,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def basename(space: Workspace) -> str:
    """Return the name of the image without file extension, such as `vault-cube-demo-box-1.0.0-debian-12`."""
    image = space.settings.image
    return f"{image.name}-{image.version}-{space.target}"


def current(space: Workspace) -> Manifest | None:
    """Return the manifest of the image in dist/ if it is up to date; None also if the locks cannot be read."""
    try:
        return proven(space, Inputs.read(space))
    except VaultCubeError:
        return None


def proven(space: Workspace, inputs: Inputs) -> Manifest | None:
    """Return the manifest of the image in dist/ if the image is up to date, else None."""
    return _fresh(space, inputs, space.dist)


def unproven(space: Workspace, inputs: Inputs) -> Manifest | None:
    """Like `proven`, for an image that is built but not yet boot-tested."""
    return _fresh(space, inputs, space.build / "image")


def _fresh(space: Workspace, inputs: Inputs, folder: Path) -> Manifest | None:
    try:
        entry = manifest.read(folder, basename(space))
        fresh = entry["key"] == image_key(space, inputs)
        # the lock may have been updated since: then the same files match it now, and the manifest's verdict is stale
        fresh = fresh and entry["moved"] == inputs.moved
        damaged = manifest.damaged(folder, entry) if fresh else []
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for name in damaged:
        note(f"[yellow]{folder / name} differs from its manifest: rebuilding[/]")
    return entry if fresh and not damaged else None
