"""Is an image that somebody handed over what its papers say: checksum, signature, provenance. Needs no root."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image import store
from vault_cube.image.attest import provenance, signature


def check(image: Path, signers: Path | None = None) -> list[str]:
    """Check an image and the files beside it. Returns what was found good, a line each.

    signers: whose signature counts (a public key, or an allowed_signers file); None: none is asked for, and that is
    said. Raises VaultCubeError naming everything that is wrong.
    """
    if not image.is_file():
        raise VaultCubeError(f"{image}: no such file")
    sums = sums_beside(image)
    asked: tuple[Callable[[], str], ...] = (
        lambda: _checksums(image, sums),
        lambda: _signature(sums, signers),
        # a bundle is no image yet: what it holds names its commit
        *([] if image.name.endswith(".bundle.tar") else [lambda: _provenance(image, sums)]),
    )
    good, bad = [], []
    for one in asked:
        try:
            good.append(one())
        except VaultCubeError as err:
            bad.append(str(err))
    if bad:
        raise VaultCubeError("\n".join(bad))
    return good


def sums_beside(image: Path) -> Path:
    """The SHA256SUMS that lists an image, in the same folder."""
    for file in sorted(image.absolute().parent.glob("*SHA256SUMS")):
        if image.name in read(file):
            return file
    raise VaultCubeError(
        f"{image.name}: no SHA256SUMS beside it lists it: copy the files of dist/ along, under their names"
    )


def read(sums: Path) -> dict[str, str]:
    """A checksum file: name → sha256. Raises VaultCubeError naming the line that is none."""
    found = {}
    for number, line in enumerate(sums.read_text(errors="replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/]+)", line)
        if not match:
            raise VaultCubeError(f"{sums.name}: line {number}: not a checksum")
        found[match.group(2)] = match.group(1)
    return found


def _checksums(image: Path, sums: Path) -> str:
    listed = read(sums)
    there = {name: sums.parent / name for name in listed if name == image.name or (sums.parent / name).exists()}
    wrong = [name for name, file in there.items() if store.sha256_of(file) != listed[name]]
    if wrong:
        raise VaultCubeError(
            f"{', '.join(sorted(wrong))}: not what {sums.name} says: damaged on its way, or changed: fetch it again"
        )
    return f"checksum: {', '.join(sorted(there))} as {sums.name} says"


def _signature(sums: Path, signers: Path | None) -> str:
    if signers is not None:
        return f"signature: {signature.verify(sums, signers)}"
    if signature.of(sums).exists():
        return "signature: there is one, and it was not asked whose: name signers=FILE"
    return "signature: none"


def _provenance(image: Path, sums: Path) -> str:
    file = sums.with_name(sums.name.removesuffix("SHA256SUMS") + "provenance.json")
    if not file.is_file():
        raise VaultCubeError(f"{file.name}: missing: where the image comes from is not known")
    try:
        said: dict[str, Any] = json.loads(file.read_text())
        if (said["_type"], said["predicateType"]) != (provenance.STATEMENT, provenance.PREDICATE):
            raise VaultCubeError(f"{file.name}: not an in-toto statement with SLSA provenance v1")
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]}
        definition = said["predicate"]["buildDefinition"]
        parameters = definition["externalParameters"]
        checkout = next(one for one in definition["resolvedDependencies"] if one["name"] == "checkout")
        commit = checkout.get("digest", {}).get("gitCommit", "unknown")
        dirty = checkout.get("annotations", {}).get("dirty", False)
    except (ValueError, KeyError, TypeError, StopIteration):
        raise VaultCubeError(f"{file.name}: not a provenance of this project: fetch it again") from None
    if file.name not in read(sums):
        raise VaultCubeError(f"{file.name}: {sums.name} does not cover it: it may be anybody's")
    if subjects.get(image.name) != store.sha256_of(image):
        raise VaultCubeError(f"{file.name}: of another image: it does not know {image.name} with this sha256")
    return (
        f"provenance: {parameters['target']} {parameters['version']}, commit {commit}"
        + (" with uncommitted changes" if dirty else "")
        + f", {len(definition['resolvedDependencies']) - 1} locks"
    )
