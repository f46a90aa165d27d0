"""The master's releases: archives of the checkout at a commit, which boxes fetch. And fingerprints of keys."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from vault_cube import process
from vault_cube.carried import FILES, FOLDERS
from vault_cube.errors import VaultCubeError
from vault_cube.fleet.release import NAMESPACE
from vault_cube.image.attest import signature


def make(checkout: Path, commit: str, folder: Path, sign_key: Path | None = None) -> tuple[str, Path]:
    """Make the release of a commit in the master's folder, unless it exists. Returns the full commit and the file.

    sign_key: a private ssh key that signs the archive, or None.
    Raises VaultCubeError for an unknown commit, and if the folder is missing.
    """
    if not folder.is_dir():
        raise VaultCubeError(f"{folder}: no such folder: make this machine the fleet's master first, `make master`")
    full = _git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}").strip()
    file = folder / f"{full}.tar"
    if not file.exists():
        present = _git(checkout, "ls-tree", "--name-only", full).split()
        tops = {name.partition("/")[0] for name in (*FOLDERS, *FILES, "locks")}
        parts = [name for name in (*FOLDERS, *FILES, "locks") if name.partition("/")[0] in tops.intersection(present)]
        new = file.with_name(f".{file.name}")
        _git(checkout, "archive", "--format=tar", "-o", str(new), full, *parts)
        new.chmod(0o644)
        new.replace(file)
    if sign_key:
        signature.sign(file, sign_key, NAMESPACE).chmod(0o644)
    return full, file


def sha256(file: Path) -> str:
    """Compute the SHA-256 of a release. Raises OSError."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def fingerprint(pem: str) -> str:
    """Return the fingerprint of a public key in PEM format as `key.finger` computes it on the box, with colons.

    Salt hashes the text between the first and the last line (salt.utils.crypt.pem_finger).
    """
    lines = [line for line in pem.splitlines(keepends=True) if line.strip()]
    body = "".join(lines[1:-1]).replace("\r\n", "\n")
    return ":".join(re.findall("..", hashlib.sha256(body.encode()).hexdigest()))


def _git(checkout: Path, *words: str) -> str:
    # the checkout may belong to somebody else than to who runs this
    command = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout), *words]
    try:
        return process.run(command, purpose="release").stdout
    except process.CommandFailed as err:
        if words[0] == "rev-parse":
            raise VaultCubeError(f"{checkout}: no such commit: see `git log`") from err
        raise
