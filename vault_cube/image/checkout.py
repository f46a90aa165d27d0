"""The source files of a checkout, and copies of a checkout that record its commit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image import git
from vault_cube.image.attest import provenance

MADE = {".git", ".venv", ".salt", "build", "dist", "carried", "__pycache__"}
"""Names of files and folders that are no sources."""


def sources(checkout: Path) -> list[Path]:
    """Return the source files of a checkout, sorted.

    If the checkout is a git repository: all files that git tracks or does not ignore, and pillar/local.sls. If not: all
    files except the names in MADE and the caches of tools.
    """
    listed = git.output(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        return _walk(checkout)
    files = {checkout / name for name in listed.split("\0") if name} | {checkout / "pillar/local.sls"}
    return sorted(file for file in files if file.is_symlink() or file.is_file())


def _walk(checkout: Path) -> list[Path]:
    files: list[Path] = []
    for folder, folders, names in os.walk(checkout):
        folders[:] = [name for name in folders if name not in MADE and not name.endswith("_cache")]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        files += [Path(folder, name) for name in (*names, *links) if name not in MADE]
    return sorted(files)


def copy(checkout: Path, other: Path) -> None:
    """Copy the source files of a checkout, last file first, and record its commit in the copy."""
    for file in reversed(sources(checkout)):
        target = other / file.relative_to(checkout)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target, follow_symlinks=False)
        if not file.is_symlink():
            target.chmod(_mode(file))
    _record(other, provenance.source(checkout))


def _mode(file: Path) -> int:
    """Return the mode of a copied file: that of a program if it begins with #!, wherever the checkout is."""
    with file.open("rb") as opened:
        return 0o755 if opened.read(2) == b"#!" else 0o644


def copy_of_commit(checkout: Path, commit: str, other: Path) -> None:
    """Copy the files of a commit, without pillar/local.sls, and record the commit in the copy.

    Raises VaultCubeError if the checkout has no such commit.
    """
    other.mkdir(parents=True)
    archive = other.with_name(f"{other.name}.tar")
    if git.output(checkout, "archive", "--format=tar", f"--output={archive}", commit) is None:
        raise VaultCubeError(
            f"commit {commit} is not in this checkout: run `git fetch`, or use a clone of the repository that the "
            "image was built from"
        )
    # not the modes of the archive: git makes its files writable for the group
    process.run(["tar", "-xf", archive, "--no-same-owner", "--no-same-permissions", "-C", other])
    archive.unlink()
    _record(other, {"commit": commit, "changed": []})


def _record(other: Path, source: provenance.Source) -> None:
    """Record the source of a copy in it, and make the folder of Salt's cache."""
    (other / ".salt").mkdir()
    (other / "carried").mkdir()
    (other / provenance.CARRIED).write_text(json.dumps(source))
