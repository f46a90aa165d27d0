"""Read the provenance of an image: from which commit it was built, and which files it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image.attest import provenance

ENDING = "provenance.json"


@dataclass(frozen=True)
class Origin:
    """What the provenance of an image says."""

    target: str
    version: str
    commit: str | None
    """The commit of the checkout; None if it was not known."""
    dirty: bool
    """True if the checkout had uncommitted changes."""
    pillar_sha256: str
    keys: Mapping[str, str]
    """Layer or `tools` → key."""
    subjects: Mapping[str, str]
    """Name of each file of the image, and of the raw disk → SHA-256."""
    locks: int
    """Number of locks that the provenance lists."""


def beside(sums: Path) -> Path:
    """Return the path of the provenance beside a SHA256SUMS file."""
    return sums.with_name(sums.name.removesuffix("SHA256SUMS") + ENDING)


def read(file: Path) -> Origin:
    """Read a provenance. Raises VaultCubeError if it is missing, or not written by this project."""
    if not file.is_file():
        raise VaultCubeError(f"{file.name}: missing, so the origin of the image is unknown: copy it from dist/ too")
    try:
        statement: dict[str, Any] = json.loads(file.read_text())
        if (statement["_type"], statement["predicateType"]) != (provenance.STATEMENT, provenance.PREDICATE):
            raise VaultCubeError(f"{file.name}: not an in-toto statement with SLSA provenance v1: fetch it again")
        definition = statement["predicate"]["buildDefinition"]
        dependencies = definition["resolvedDependencies"]
        checkout = next(entry for entry in dependencies if entry["name"] == "checkout")
        commit = checkout.get("digest", {}).get("gitCommit")
        if commit is not None and not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
            raise VaultCubeError(f"{file.name}: {commit!r} is not a commit: fetch it again")
        return Origin(
            target=str(definition["externalParameters"]["target"]),
            version=str(definition["externalParameters"]["version"]),
            commit=commit,
            dirty=bool(checkout.get("annotations", {}).get("dirty", False)),
            pillar_sha256=str(definition["internalParameters"]["pillarSha256"]),
            keys=dict(definition["internalParameters"]["keys"]),
            subjects={subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]},
            locks=len(dependencies) - 1,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as err:
        raise VaultCubeError(f"{file.name}: not a provenance statement of this project: fetch it again") from err
