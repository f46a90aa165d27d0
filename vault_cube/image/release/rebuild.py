"""Rebuild an image that somebody else built, from the commit in its provenance, and sign that it was reproduced.

The rebuild runs as the second build of `verify.py` does: in a copy of the commit, from an empty layer cache, without a
network, in other conditions. Only the download of the commit's locked files, before it, uses the network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image import checkout, store
from vault_cube.image.attest.manifest import Manifest
from vault_cube.image.cache import keys
from vault_cube.image.inspect import origin, statements
from vault_cube.image.inspect.check import sums_beside
from vault_cube.image.inspect.origin import Origin
from vault_cube.image.progress import note, step
from vault_cube.image.release import verify
from vault_cube.image.release.verify import Built
from vault_cube.image.workspace import Workspace

ENVIRONMENT = "locks/checkout.lock"
Build = Callable[[Workspace, Path, Path, Path], tuple[Built, dict[str, str]]]


def provenance_of(file: Path) -> Path:
    """Return the provenance of an image; `file` is the image, or the provenance itself.

    Raises VaultCubeError if there is none, or if it is for another image.
    """
    if not file.is_file():
        raise VaultCubeError(f"{file}: no such file")
    if file.name.endswith(f".{origin.ENDING}"):
        return file
    provenance = origin.beside(sums_beside(file))
    if origin.read(provenance).subjects.get(file.name) != store.sha256_of(file):
        raise VaultCubeError(f"{provenance.name}: for another image: it does not list {file.name} with this SHA-256")
    return provenance


def fetch_and_build(space: Workspace, other: Path, work: Path, report: Path) -> tuple[Built, dict[str, str]]:
    """Download the locked files of a copy of a checkout, then build it like `verify.build_elsewhere`."""
    environment = {
        **os.environ,
        "VAULT_CUBE_CACHE": str(work / "cache"),
        "VAULT_CUBE_STORE": str(space.store),
        "PYTHONPATH": str(other),
    }
    command = verify.stage_command(space, "image.fetch", "locked=True")
    if process.run(command, cwd=other, env=environment, capture=False, ok=None).returncode:
        raise VaultCubeError(f"cannot fetch the locked files of {space.target} at that commit: see the messages above")
    return verify.build_elsewhere(space, other, work, report)


def reproduce(space: Workspace, provenance: Path, key: Path, build: Build = fetch_and_build) -> Path:
    """Rebuild an image from its commit and compare the bytes. Returns the path of the signed statement.

    provenance: that of the image; the statement is written beside it. key: the builder's ssh key. build: the function
    that builds a copy of a checkout, with the arguments of `verify.build_elsewhere`.
    Raises VaultCubeError if the image cannot be rebuilt, or differs; then nothing is written beside the provenance.
    """
    source = origin.read(provenance)
    if source.commit is None:
        raise VaultCubeError(f"{provenance.name}: the commit is unknown, so nobody can rebuild the image")
    if source.dirty:
        raise VaultCubeError(
            f"{provenance.name}: built with uncommitted changes, which commit {source.commit} does not have"
        )
    if not key.is_file():
        raise VaultCubeError(f"{key}: no such file: name a private ssh key, or the public half of a key in your agent")
    with space.exclusive():
        report = space.build / "rebuild"
        shutil.rmtree(report, ignore_errors=True)
        report.mkdir(parents=True)
        with space.scratch("rebuild") as work:
            other = work / "elsewhere/vc"
            checkout.copy_of_commit(space.checkout, source.commit, other)
            _same_environment(space, source.commit, other)
            built, varied = build(space, other, work, report)
            with step("compare"):
                differences = compare(source, built)
            if differences:
                raise VaultCubeError(f"{provenance.name}: not reproduced from its commit: {'; '.join(differences)}")
    return statements.write(provenance, source, varied, key, provenance.absolute().parent)


def _same_environment(space: Workspace, commit: str, other: Path) -> None:
    """Check that .venv is that of the commit: the rebuild uses it, and its packages pack the image."""
    files = [folder / ENVIRONMENT for folder in (space.checkout, other)]
    if not files[1].is_file() or files[0].read_bytes() != files[1].read_bytes():
        raise VaultCubeError(
            f"{ENVIRONMENT} of this checkout differs from that of commit {commit}: run `git checkout {commit}` first"
        )


def compare(source: Origin, built: Built) -> list[str]:
    """Compare an image with its rebuild. Returns one reason for each file that differs; none if all are equal.

    source: the image's provenance. If an input of the image was not the commit's, the first reason names it.
    """
    rebuilt = _digests(built.manifest)
    differences = [
        f"{name}: SHA-256 {digest}, rebuilt {rebuilt.get(name, 'nothing of this name')}"
        for name, digest in source.subjects.items()
        if rebuilt.get(name) != digest
    ]
    for name, digest in source.subjects.items():
        note(f"{name}: sha256 {digest}" + ("" if rebuilt.get(name) == digest else " [red]differs[/]"))
    if not differences:
        return []
    theirs = origin.read(built.folder / f"{built.manifest['name']}.{origin.ENDING}")
    if theirs.pillar_sha256 != source.pillar_sha256:
        return ["its pillar is not the commit's: it was built with a pillar/local.sls", *differences]
    layer = next((name for name in keys.ORDER if theirs.keys.get(name) != source.keys.get(name)), None)
    return [f"the inputs of layer {layer} are not the commit's", *differences] if layer else differences


def _digests(manifest: Manifest) -> dict[str, str]:
    """Return name → SHA-256 of the files of an image and of its raw disk, named as in a provenance."""
    return {
        f"{manifest['name']}.raw": manifest["raw_sha256"],
        **{name: file["sha256"] for name, file in manifest["files"].items()},
    }
