"""Check a received image against the files beside it: checksum, signature and provenance. Needs no root."""

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
    """Check an image and the files beside it.

    signers: accepted signers, as a public key or an allowed_signers file; None: the signature is not verified.
    Returns one line per check. Raises VaultCubeError with one line per failed check.
    """
    if not image.is_file():
        raise VaultCubeError(f"{image}: no such file")
    sums = sums_beside(image)
    checks: tuple[Callable[[], str], ...] = (
        lambda: _checksums(image, sums),
        lambda: _signature(sums, signers),
        # a bundle is not an image and has no provenance; its contents name the commit
        *([] if image.name.endswith(".bundle.tar") else [lambda: _provenance(image, sums)]),
    )
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
    file = sums.with_name(sums.name.removesuffix("SHA256SUMS") + "provenance.json")
    if not file.is_file():
        raise VaultCubeError(f"{file.name}: missing, so the origin of the image is unknown: copy it from dist/ too")
    try:
        statement: dict[str, Any] = json.loads(file.read_text())
        if (statement["_type"], statement["predicateType"]) != (provenance.STATEMENT, provenance.PREDICATE):
            raise VaultCubeError(f"{file.name}: not an in-toto statement with SLSA provenance v1: fetch it again")
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        definition = statement["predicate"]["buildDefinition"]
        parameters = definition["externalParameters"]
        checkout = next(source for source in definition["resolvedDependencies"] if source["name"] == "checkout")
        commit = checkout.get("digest", {}).get("gitCommit", "unknown")
        dirty = checkout.get("annotations", {}).get("dirty", False)
    except (ValueError, KeyError, TypeError, StopIteration) as err:
        raise VaultCubeError(f"{file.name}: not a provenance statement of this project: fetch it again") from err
    if file.name not in read(sums):
        raise VaultCubeError(f"{file.name}: not listed in {sums.name}, so its origin is unknown: fetch both again")
    if subjects.get(image.name) != store.sha256_of(image):
        raise VaultCubeError(f"{file.name}: for another image: it does not list {image.name} with this SHA-256")
    return (
        f"provenance: {parameters['target']} {parameters['version']}, commit {commit}"
        + (" with uncommitted changes" if dirty else "")
        + f", {len(definition['resolvedDependencies']) - 1} locks"
    )
