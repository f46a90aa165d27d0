"""Check a received image against the files beside it: checksum, signature, provenance, rebuilds. Needs no root."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vault_cube.drift.classes import DRIFT
from vault_cube.drift.comparison import Request
from vault_cube.drift.comparison import compare as compare_tree
from vault_cube.drift.manifest import ENDING, ManifestError
from vault_cube.errors import VaultCubeError
from vault_cube.image import store
from vault_cube.image.attest import signature
from vault_cube.image.inspect import origin, statements

LISTED = 200
"""Largest number of differences that are listed."""


def check(
    image: Path,
    signers: Path | None = None,
    builders: Path | None = None,
    threshold: int | None = None,
    *,
    root: Path | None = None,
) -> list[str]:
    """Check an image, or the manifest of its files (`*.files.gz`), and the files beside it.

    signers: accepted signers, as a public key or an allowed_signers file; None: the signature is not verified.
    builders, threshold: the image is only accepted if `threshold` of these builders, given in the same way, have
    signed a statement that they reproduced it. root: the mounted disk of a box that was made from the image; all its
    files are compared with the manifest of the image's files, see vault_cube/drift/.
    Returns one line per check. Raises VaultCubeError with one line per failed check.
    """
    if (builders is None) != (threshold is None):
        raise VaultCubeError("builders and threshold belong together: pass both, such as builders=FILE threshold=2")
    if threshold is not None and threshold < 1:
        raise VaultCubeError(f"threshold={threshold}: at least 1 builder has to be required")
    if not image.is_file():
        raise VaultCubeError(f"{image}: no such file")
    sums = sums_beside(image)
    is_bundle = image.name.endswith(".bundle.tar")
    if is_bundle and builders:
        raise VaultCubeError(f"{image.name}: a bundle is not an image: check the image that is built from it")
    checks: list[Callable[[], str]] = [lambda: _checksums(image, sums), lambda: _signature(sums, signers)]
    # a bundle is not an image and has no provenance; its contents name the commit
    if not is_bundle:
        checks.append(lambda: _provenance(image, sums))
    if builders is not None and threshold is not None:
        checks.append(lambda: statements.check(image, origin.read(origin.beside(sums)), builders, threshold))
    elif number := len(statements.beside(image)):
        hint = f"{number} present, not verified: pass builders=FILE threshold=NUMBER to verify them"
        checks.append(lambda: f"statements of rebuilds: {hint}")
    if root is not None:
        mounted = root
        checks.append(lambda: _tree(mounted, image, sums))
    results, problems = [], []
    for run in checks:
        try:
            results.append(run())
        except VaultCubeError as err:
            problems.append(str(err))
    if problems:
        raise VaultCubeError("\n".join(problems))
    return results


def sums_beside(image: Path) -> Path:
    """Return the SHA256SUMS file that lists an image, in the same folder. Raises VaultCubeError if there is none."""
    for file in sorted(image.absolute().parent.glob("*SHA256SUMS")):
        if image.name in read(file):
            return file
    raise VaultCubeError(
        f"{image.name}: no SHA256SUMS in its folder lists it: copy the other files of dist/ too, with their names"
    )


def read(sums: Path) -> dict[str, str]:
    """Read a checksum file: file name → SHA-256. Raises VaultCubeError, naming the line, for a malformed one."""
    checksums = {}
    for number, line in enumerate(sums.read_text(errors="replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/]+)", line)
        if not match:
            raise VaultCubeError(f"{sums.name}: line {number}: not a checksum line: fetch the file again")
        checksums[match.group(2)] = match.group(1)
    return checksums


def _checksums(image: Path, sums: Path) -> str:
    listed = read(sums)
    present = {name: sums.parent / name for name in listed if name == image.name or (sums.parent / name).exists()}
    wrong = [name for name, file in present.items() if store.sha256_of(file) != listed[name]]
    if wrong:
        raise VaultCubeError(
            f"{', '.join(sorted(wrong))}: differs from {sums.name}: damaged in transit, or modified: fetch it again"
        )
    return f"checksum: {', '.join(sorted(present))}: same as in {sums.name}"


def _signature(sums: Path, signers: Path | None) -> str:
    if signers is not None:
        return f"signature: {signature.verify(sums, signers)}"
    if signature.of(sums).exists():
        return "signature: present, not verified: pass signers=FILE to verify it"
    return "signature: none"


def _provenance(image: Path, sums: Path) -> str:
    file = origin.beside(sums)
    source = origin.read(file)
    if file.name not in read(sums):
        raise VaultCubeError(f"{file.name}: not listed in {sums.name}, so its origin is unknown: fetch both again")
    if source.subjects.get(image.name) != store.sha256_of(image):
        raise VaultCubeError(f"{file.name}: for another image: it does not list {image.name} with this SHA-256")
    return (
        f"provenance: {source.target} {source.version}, commit {source.commit or 'unknown'}"
        + (" with uncommitted changes" if source.dirty else "")
        + f", {source.locks} locks"
    )


def _tree(root: Path, image: Path, sums: Path) -> str:
    """Compare a mounted disk with the manifest beside the image. Raises VaultCubeError with one line per difference."""
    if not (root / "etc").is_dir():
        raise VaultCubeError(f"{root}: no root file system: mount the box's disk there, read-only")
    names = [image.name] if image.name.endswith(ENDING) else [name for name in read(sums) if name.endswith(ENDING)]
    if len(names) != 1 or not (file := sums.with_name(names[0])).is_file():
        raise VaultCubeError(f"{sums.name}: no {ENDING} beside the image: copy it from dist/ too")
    if store.sha256_of(file) != read(sums)[file.name]:
        raise VaultCubeError(f"{file.name}: differs from {sums.name}: fetch it again")
    try:
        result = compare_tree(Request(root, file, full=True, use_index=False))
    except ManifestError as err:
        raise VaultCubeError(str(err)) from err
    if result["drifted"]:
        # without the checkout of the box, which is judged here, nothing repairs itself
        differences = [f"{f['what']}: {f['change']}" for f in result["findings"] if f["class"] in DRIFT]
        more = [f"and {len(differences) - LISTED} more"] if len(differences) > LISTED else []
        raise VaultCubeError("\n".join([f"{root}: {len(differences)} differences", *differences[:LISTED], *more]))
    counts = ", ".join(f"{count} {kind}" for kind, count in result["counts"].items() if count)
    return f"files: {root}: {result['files']} files read and compared: no drift{f'; {counts}' if counts else ''}"
