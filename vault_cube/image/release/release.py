"""Put a verified image into a release folder, with its notes and a signature; refuse what cannot be released.

The folder is `dist/release/<image>/`: the files of the image, the result of `image.verify`, release notes, and
SHA256SUMS over all of them with its signature. It gets its name when it is complete.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vault_cube import __version__
from vault_cube.errors import VaultCubeError
from vault_cube.image import store
from vault_cube.image.attest import finished, provenance, signature
from vault_cube.image.attest.manifest import Manifest
from vault_cube.image.inspect import check, origin
from vault_cube.image.progress import note
from vault_cube.image.release.verify import Verification
from vault_cube.image.workspace import Workspace

CHANGELOG = "CHANGELOG.md"
KNOWN_ISSUES = "docs/demo-box-known-issues.md"


def ready(space: Workspace, key: Path) -> str:
    """Check everything about a release that does not need the image. Returns the changelog of the version.

    key: as for `signature.sign`. Raises VaultCubeError, in one line, for the first thing that prevents a release.
    """
    if not key.is_file():
        raise VaultCubeError(f"{key}: no such file: name your ssh key: make release SIGN_KEY=FILE")
    source = provenance.source(space.checkout)
    if source["commit"] is None:
        raise VaultCubeError(f"{space.checkout}: the commit is unknown: release from a git clone")
    if source["changed"]:
        raise VaultCubeError(
            f"the checkout has uncommitted changes, first {source['changed'][0]}: commit or remove them: `git status`"
        )
    if (space.checkout / "pillar/local.sls").exists():
        raise VaultCubeError("pillar/local.sls is not part of the commit, so nobody could rebuild the image: remove it")
    version = space.settings.image.version
    if version != __version__:
        raise VaultCubeError(
            f"pillar image:version is {version}, vault_cube.__version__ is {__version__}: set both to the new version"
        )
    if _folder(space).exists():
        raise VaultCubeError(
            f"{_folder(space)}: {version} is released already: raise image:version, or remove the folder"
        )
    return changes(space.checkout / CHANGELOG, version)


def changes(file: Path, version: str) -> str:
    """Return the section of a version in the changelog, without its heading.

    Raises VaultCubeError if there is none, or if changes are still listed as unreleased.
    """
    sections = re.split(r"^## ", file.read_text(), flags=re.MULTILINE)[1:]
    texts = {heading.strip(): text.strip() for heading, _, text in (section.partition("\n") for section in sections)}
    if texts.get("Unreleased"):
        raise VaultCubeError(
            f"{file.name}: Unreleased is not empty: move its entries below a heading `## {version} - YYYY-MM-DD`"
        )
    for heading, text in texts.items():
        if re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", heading):
            if not text:
                raise VaultCubeError(f"{file.name}: the section of {version} is empty: list its changes")
            return text
    raise VaultCubeError(f"{file.name}: no heading `## {version} - YYYY-MM-DD`: add one")


def make(space: Workspace, key: Path, current: Callable[[Workspace], Manifest | None] = finished.current) -> Path:
    """Write the release of the finished image. Returns its folder.

    key: as for `signature.sign`. current: the function that returns the manifest of the up-to-date image in dist/.
    Raises VaultCubeError, in one line, for the first thing that prevents a release; then no folder is left.
    """
    text = ready(space, key)
    manifest = current(space)
    if manifest is None:
        raise VaultCubeError(f"{finished.basename(space)}: no up-to-date image in dist/: run `make image LOCKED=1`")
    _matches(space, manifest)
    verified = _verified(space, manifest)
    folder = _folder(space)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as name:
        work = Path(name) / folder.name
        work.mkdir()
        for file in manifest["files"]:
            _link(space.dist / file, work / file)
        shutil.copy(space.dist / f"{manifest['name']}.manifest.json", work)
        (work / f"{manifest['name']}.verify.json").write_text(json.dumps(verified, indent=1) + "\n")
        (work / f"{manifest['name']}.notes.md").write_text(notes(space, manifest, verified, text))
        sums = work / f"{manifest['name']}.SHA256SUMS"
        # hash the files again: they may have changed since the manifest was written
        sums.write_text("".join(f"{store.sha256_of(file)}  {file.name}\n" for file in sorted(work.iterdir())))
        _same(manifest, sums)
        signature.sign(sums, key)
        work.replace(folder)
    note(f"{folder}: publish these files, then: git tag v{manifest['version']}")
    return folder


def _folder(space: Workspace) -> Path:
    return space.dist / "release" / finished.basename(space)


def _matches(space: Workspace, manifest: Manifest) -> None:
    """Check that the image was built from the locks and from the commit of the checkout."""
    name = manifest["name"]
    if not manifest["matches_lock"]:
        raise VaultCubeError(
            f"{name}: {len(manifest['moved'])} files differ from the lock: run `make lock`, commit locks/, build again"
        )
    source = origin.read(space.dist / f"{name}.{origin.ENDING}")
    commit = provenance.source(space.checkout)["commit"]
    if source.dirty or source.commit != commit:
        built = f"commit {source.commit}" + (" with uncommitted changes" if source.dirty else "")
        raise VaultCubeError(
            f"{name}: its provenance names {built}, this is commit {commit}: remove dist/{name}.manifest.json, then "
            "`make image LOCKED=1`"
        )


def _verified(space: Workspace, manifest: Manifest) -> Verification:
    """Return the result of `image.verify` for exactly these files. Raises VaultCubeError if there is none."""
    file = space.build / "verify/verify.json"
    try:
        result: Verification = json.loads(file.read_text())
        equal = result["same"] is True and result["raw_sha256"] == manifest["raw_sha256"]
        equal = equal and result["files"] == {name: entry["sha256"] for name, entry in manifest["files"].items()}
        conditions = result["varied"]
    except OSError as err:
        raise VaultCubeError(f"{manifest['name']}: not verified: run `make verify TARGET={space.target}`") from err
    except (ValueError, KeyError, TypeError) as err:
        raise VaultCubeError(f"{file}: damaged: run `make verify TARGET={space.target}`") from err
    if not equal:
        raise VaultCubeError(
            f"{manifest['name']}: another image was verified: run `make verify TARGET={space.target}` again"
        )
    # the folder and the host's name in the conditions are of no use to others
    return {**result, "varied": {name: value for name, value in conditions.items() if name != "folder"}}


def _same(manifest: Manifest, sums: Path) -> None:
    """Check that the files of a release are those of the manifest."""
    listed = check.read(sums)
    for name, entry in manifest["files"].items():
        if listed[name] != entry["sha256"]:
            raise VaultCubeError(f"dist/{name}: changed after it was built: run `make image LOCKED=1` again")


def _link(file: Path, copy: Path) -> None:
    """Make a hard link, which needs no disk space; a copy, if the file system has no links."""
    try:
        copy.hardlink_to(file)
    except OSError:
        shutil.copy(file, copy)


def notes(space: Workspace, manifest: Manifest, verified: Verification, changelog: str) -> str:
    """Write the release notes in Markdown: what changed, how to check the files, what was verified."""
    name = manifest["name"]
    image = next(iter(manifest["files"]))
    files = "\n".join(
        f"| `{file}` | {entry['bytes']:,} | `{entry['sha256']}` |" for file, entry in manifest["files"].items()
    )
    varied = "\n".join(f"* {condition}: {value}" for condition, value in verified["varied"].items())
    return f"""\
# {space.settings.image.name} {manifest["version"]}, {manifest["target"]}

Commit `{provenance.source(space.checkout)["commit"]}`.

{changelog}

## Files

| file | bytes | SHA-256 |
|---|---|---|
{files}

## Check the files

```console
$ sha256sum --check --ignore-missing {name}.SHA256SUMS
$ .venv/bin/salt-call image.check {image} signers=maintainer.pub     # in a clone: also signature and provenance
# make rebuild-check FILE={image} SIGN_KEY=~/.ssh/id_ed25519         # build it yourself, and sign that it is the same
```

## Verified

The image was built twice with equal bytes. The second build differed in:

{varied}

What is not proven: `{KNOWN_ISSUES}` of the commit.
"""
