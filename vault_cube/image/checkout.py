"""The checkout as a set of files: what of it is a source, and a copy that knows the commit it was made of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from vault_cube.image.attest import provenance

MADE = {".git", ".venv", ".salt", "build", "dist", "carried", "__pycache__"}


def sources(checkout: Path) -> list[Path]:
    """The files that a checkout consists of: what git knows or would take, and pillar/local.sls; sorted.

    Without git: all but what is made here.
    """
    git = ["git", "-c", "safe.directory=*", "-C", str(checkout), "ls-files", "-z"]
    try:
        listed = subprocess.run(
            [*git, "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return _walk(checkout)
    found = {checkout / name for name in listed.split("\0") if name} | {checkout / "pillar/local.sls"}
    return sorted(file for file in found if file.is_symlink() or file.is_file())


def _walk(checkout: Path) -> list[Path]:
    files: list[Path] = []
    for folder, names, found in os.walk(checkout):
        names[:] = [name for name in names if name not in MADE and not name.endswith("_cache")]
        links = [name for name in names if Path(folder, name).is_symlink()]
        files += [Path(folder, name) for name in (*found, *links) if name not in MADE]
    return sorted(files)


def copy(checkout: Path, other: Path) -> None:
    """Copy a checkout's sources, last file first; the copy says of which commit."""
    for file in reversed(sources(checkout)):
        target = other / file.relative_to(checkout)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target, follow_symlinks=False)
    (other / ".salt").mkdir()
    (other / "carried").mkdir()
    (other / provenance.CARRIED).write_text(json.dumps(provenance.source(checkout)))
