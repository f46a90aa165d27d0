"""Write the attestations of an image: two SBOMs and the provenance. They depend only on its inputs and its bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from vault_cube.image import store
from vault_cube.image.attest import provenance, sbom, source_packages
from vault_cube.image.inputs import Inputs
from vault_cube.image.workspace import Workspace


def make(
    space: Workspace,
    inputs: Inputs,
    folder: Path,
    *,
    name: str,
    digests: Mapping[str, str],
    trees: Iterable[Path] = (),
) -> list[Path]:
    """Write the attestations to a folder. Returns the files.

    name: the name of the image without file extension. digests: the SHA-256 of each file of the image by its name, and
    of the raw disk as `raw`. trees: the folders of the image's layers, bottom first; they name the source packages.
    """
    target = space.settings.target
    parts = sbom.parts(inputs.packages.debs, inputs.wheels, target.os, target.release, source_packages.of_trees(trees))
    subject = sbom.Subject(
        name, space.settings.image.version, digests["raw"], inputs.packages.epoch, target.os, target.release
    )
    boms = [folder / f"{name}.cdx.json", folder / f"{name}.spdx.json"]
    sbom.cyclonedx(subject, parts, boms[0])
    sbom.spdx(subject, parts, boms[1])
    statement = provenance.statement(
        space,
        inputs,
        {f"{name}.raw" if form == "raw" else form: digest for form, digest in digests.items()},
        {file.name: store.sha256_of(file) for file in boms},
    )
    file = folder / f"{name}.provenance.json"
    file.write_text(json.dumps(statement, indent=1) + "\n")
    return [*boms, file]
