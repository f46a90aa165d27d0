"""Write the provenance of an image: an in-toto statement with an SLSA predicate.

It records the commit, whether the checkout was clean, the SHA-256 of every lock and of the pillar, all keys and the
builder. It contains no time and no machine name, so two builds of one commit write the same file.
Source: in-toto Statement v1; SLSA v1.0, "Provenance". buildType and builder.id are URIs of this project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from vault_cube import __version__
from vault_cube.image import git
from vault_cube.image.inputs import Inputs
from vault_cube.image.workspace import Workspace

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:vault-cube:image:1"
BUILDER = "urn:vault-cube:builder"

CARRIED = "carried/source.json"
"""File in a bundle that records the commit of its checkout, because a bundle has no git folder."""

LISTED = 50
"""Maximum number of changed files that a statement lists."""


class Source(TypedDict):
    """The commit of a checkout, None if it is unknown, and the files that differ from it."""

    commit: str | None
    changed: list[str]


class Resource(TypedDict):
    """A resource of an in-toto statement."""

    name: str
    digest: NotRequired[dict[str, str]]
    annotations: NotRequired[dict[str, object]]


def source(checkout: Path) -> Source:
    """Return the checkout's commit, None if unknown, and the files that differ: `{"commit": …, "changed": […]}`."""
    commit = git.output(checkout, "rev-parse", "HEAD")
    status = git.output(checkout, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal")
    if commit is None or status is None:
        try:
            carried: Source = json.loads((checkout / CARRIED).read_text())
        except (OSError, ValueError):
            return {"commit": None, "changed": []}
        return carried
    return {"commit": commit.strip(), "changed": sorted(entry[3:] for entry in status.split("\0") if entry)}


def statement(
    space: Workspace, inputs: Inputs, subjects: Mapping[str, str], byproducts: Mapping[str, str]
) -> dict[str, object]:
    """Return the in-toto statement about an image. subjects, byproducts: file name → SHA-256."""
    origin = source(space.checkout)
    checkout: Resource = {"name": "checkout", "annotations": {"dirty": bool(origin["changed"])}}
    if origin["commit"]:
        checkout["digest"] = {"gitCommit": origin["commit"]}
    else:
        checkout["annotations"] = {"commit": "unknown"}
    if origin["changed"]:
        checkout["annotations"]["changed"] = origin["changed"][:LISTED]
    pillar = json.dumps(space.pillar, sort_keys=True, default=str)
    return {
        "_type": STATEMENT,
        "subject": _resources(subjects),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"target": space.target, "version": space.settings.image.version},
                "internalParameters": {
                    "epoch": inputs.packages.epoch,
                    "pillarSha256": hashlib.sha256(pillar.encode()).hexdigest(),
                    "keys": {"tools": inputs.tools_key, **{name: key.key for name, key in inputs.keys.items()}},
                },
                "resolvedDependencies": [
                    checkout,
                    *_resources(inputs.digests),
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"vault-cube": __version__}},
                "byproducts": _resources(byproducts),
            },
        },
    }


def _resources(digests: Mapping[str, str]) -> list[Resource]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]
