"""Signed statements that an image was reproduced: a builder rebuilt it from its commit and got the same bytes.

The statement is an in-toto Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md). Its
subject lists the image's files and the raw disk, as the image's provenance does. Its predicate, `PREDICATE`, has

    result      "reproduced"; nothing is written about a rebuild that differs
    target, version, commit
                of the provenance that was rebuilt
    provenance  SHA-256 of that provenance
    varied      the conditions in which the rebuild differed from an ordinary build, and their values
    builder     as in the provenance: the program, not the person, who is known by the signature

It contains no time and no machine name. A statement is signed with an ssh key, like SHA256SUMS, in a namespace of its
own: an allowed_signers file can allow a key to vouch for rebuilds without allowing it to sign images.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vault_cube import __version__
from vault_cube.errors import VaultCubeError
from vault_cube.image import store
from vault_cube.image.attest import provenance, signature
from vault_cube.image.inspect.origin import ENDING, Origin

PREDICATE = "urn:vault-cube:reproduced:1"
NAMESPACE = "vault-cube-reproduced"
"""The namespace of the signatures of statements."""
RESULT = "reproduced"


def write(provenance_file: Path, source: Origin, varied: Mapping[str, str], key: Path, folder: Path) -> Path:
    """Write and sign the statement that an image was reproduced. Returns its path; the signature is beside it.

    provenance_file, source: the image's provenance. varied: condition of the rebuild → value. key: as for
    `signature.sign`. The file's name contains a digest of the key, so that the statements of several builders fit in
    one folder. Raises VaultCubeError if the key cannot sign; then no file is left.
    """
    statement = {
        "_type": provenance.STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in source.subjects.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "result": RESULT,
            "target": source.target,
            "version": source.version,
            "commit": source.commit,
            "provenance": {"sha256": store.sha256_of(provenance_file)},
            "varied": dict(varied),
            "builder": {"id": provenance.BUILDER, "version": {"vault-cube": __version__}},
        },
    }
    name = provenance_file.name.removesuffix(ENDING)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        draft = Path(work) / f"{name}{RESULT}.json"
        draft.write_text(json.dumps(statement, indent=1) + "\n")
        signed = signature.sign(draft, key, NAMESPACE)
        file = folder / f"{name}{RESULT}.{signature.key_id(signed)}.json"
        draft.replace(file)
        signed.replace(signature.of(file))
    return file


def beside(image: Path) -> list[Path]:
    """Return the files in an image's folder that are named like statements about it, sorted."""
    files = image.absolute().parent.glob(f"*.{RESULT}.*.json")
    return sorted(file for file in files if image.name.startswith(file.name.partition(f".{RESULT}.")[0] + "."))


def check(image: Path, source: Origin, builders: Path, threshold: int) -> str:
    """Check that enough builders have reproduced an image. Returns one line with their names.

    source: the image's provenance. builders: an allowed_signers file, or a public key. threshold: the number of
    different builders that is required. The statements are in the image's folder.
    Raises VaultCubeError, in one line, if there are fewer valid statements; it says why each other one does not count.
    """
    digest = store.sha256_of(image)
    vouching: dict[str, str] = {}
    rejected = []
    for file in beside(image):
        try:
            builder = _builder(file, image.name, digest, source, builders)
        except VaultCubeError as err:
            rejected.append(str(err))
            continue
        if builder in vouching:
            rejected.append(f"{file.name}: {builder} has also signed {vouching[builder]}, and counts once")
        else:
            vouching[builder] = file.name
    names = ", ".join(sorted(vouching)) or "nobody"
    reasons = "".join(f"; {reason}" for reason in rejected)
    if len(vouching) < threshold:
        raise VaultCubeError(
            f"{image.name}: reproduced by {names}: {len(vouching)} of {threshold} required builders"
            + (reasons or f"; no other statement {image.stem}.{RESULT}.*.json is beside it")
        )
    return f"{RESULT}: by {names}, {threshold} required" + (f"; not counted{reasons}" if rejected else "")


def _builder(file: Path, image: str, digest: str, source: Origin, builders: Path) -> str:
    """Return the name of the builder who signed a statement. Raises VaultCubeError if it is not valid for the image."""
    signer = signature.verify(file, builders, NAMESPACE)
    try:
        statement: dict[str, Any] = json.loads(file.read_text())
        kind = (statement["_type"], statement["predicateType"], statement["predicate"]["result"])
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        commit, target = statement["predicate"]["commit"], statement["predicate"]["target"]
    except (ValueError, KeyError, TypeError) as err:
        raise VaultCubeError(f"{file.name}: not a statement about a rebuild") from err
    if kind != (provenance.STATEMENT, PREDICATE, RESULT):
        raise VaultCubeError(f"{file.name}: not a statement about a rebuild")
    if subjects.get(image) != digest:
        listed = subjects.get(image, "none")
        raise VaultCubeError(f"{file.name}: for another image: SHA-256 {listed}, this {image} has {digest}")
    if (commit, target) != (source.commit, source.target):
        raise VaultCubeError(
            f"{file.name}: for commit {commit} of {target}, and the image's provenance names commit "
            f"{source.commit or 'unknown'} of {source.target}"
        )
    return re.sub(r" with \S+ key \S+$", "", signer)
