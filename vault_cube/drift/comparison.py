"""Compare a box, or a mounted disk of one, with the manifest of its image, and give each difference a class."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vault_cube.drift import accepted, index, manifest, packages, people, reading, running
from vault_cube.drift.classes import UNKNOWN, Finding, StateResult, summary
from vault_cube.drift.findings import Classifier
from vault_cube.drift.scan import Difference, Scan

FOLDER = Path("var/lib/vault-cube/drift")
"""Folder of the index, of accepted changes and of the last result, relative to the root."""
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Request:
    """What is compared, and what the caller knows about the box."""

    root: Path = Path("/")
    manifest_file: Path | None = None
    """None: the manifest that the tree itself carries."""
    full: bool = False
    """Read every file, also those that were not written since they were last read."""
    live: bool = False
    """Whether the root is the running system."""
    states: Sequence[StateResult] | None = None
    expected: Mapping[str, str] = field(default_factory=dict)
    """Further paths that may differ, from the owner's pillar."""
    listen: Sequence[str] = ()
    keys: Sequence[str] = ()
    """Public keys of the pillar."""
    use_index: bool = True


def compare(request: Request) -> dict[str, Any]:
    """Compare a tree with its manifest.

    Returns drifted, counts, findings, mode, image, manifest_sha256, files, read, trusted, seconds, and notes about the
    index. Raises ManifestError if there is no usable manifest.
    """
    start = time.monotonic()
    root = request.root
    image = manifest.read(request.manifest_file or root / manifest.PLACE)
    # from outside, only the image's own list counts: the owner's pillar is on the disk that is judged
    patterns = manifest.Patterns({**image.header["expected"], **request.expected})
    folder = root / FOLDER
    known, problem = index.load(folder, image.sha256) if request.use_index else ({}, "")
    scan = Scan(root, image, known, patterns.covers, full=request.full)
    differences = scan.run()
    classifier = Classifier(
        root,
        image,
        accepted.load(folder / ACCEPTED, image),
        patterns,
        request.states,
        _updates(root, image),
        {} if request.full else known,
    )
    findings = classifier.files(_without_manifest(differences))
    findings += classifier.state_findings()
    findings += _people(classifier, image, request)
    if request.live:
        image.header["listen"].extend(request.listen)
        findings += classifier.running(running.traits(running.System(image, root)))
    states = scan.states | classifier.byte_code
    notes = [problem]
    if request.use_index and (states != known or problem):
        notes.append(index.save(folder, image.sha256, states))
    return {
        **summary(findings),
        "mode": "full" if request.full else "default",
        "image": image.image,
        "manifest_sha256": image.sha256,
        "files": len(image.entries),
        "read": scan.read,
        "trusted": scan.trusted,
        "seconds": round(time.monotonic() - start, 1),
        "notes": [note for note in notes if note],
    }


def _without_manifest(differences: Iterable[Difference]) -> list[Difference]:
    """Leave out the manifest itself, which cannot contain its own digest."""
    return [difference for difference in differences if difference.path != manifest.PLACE]


def _updates(root: Path, image: manifest.Manifest) -> list[packages.Update]:
    try:
        return packages.updates(root, image)
    except OSError:
        return []  # a missing status file is itself a difference


def _people(classifier: Classifier, image: manifest.Manifest, request: Request) -> list[Finding]:
    changes, unreadable = [], []
    for place, before in image.header["tables"].items():
        try:
            changes += list(people.compare(place, before, reading.text(request.root / place)))
        except FileNotFoundError:
            continue  # reported as a missing file
        except OSError as err:
            unreadable.append(Finding(UNKNOWN, f"/{place}", str(err.strerror)))
    changes += people.keys(request.root, request.keys)
    packaged = [*classifier.accounts(changes), *classifier.packages()]
    return packaged + unreadable


def guard(root: Path) -> list[Difference]:
    """List the differences of what Salt and this program run from, without those that were accepted.

    Raises ManifestError if there is no usable manifest.
    """
    image = manifest.read(root / manifest.PLACE, accepted.GUARDED)
    folder = root / FOLDER
    known, _ = index.load(folder, image.sha256, accepted.GUARDED)
    patterns = manifest.Patterns(image.header["expected"])
    differences = _without_manifest(Scan(root, image, known, patterns.covers).run(accepted.GUARDED))
    classifier = Classifier(root, image, accepted.load(folder / ACCEPTED, image), patterns, known=known)
    return classifier.foreign(differences)
