"""Changes of the guarded folders that were accepted: by root on this box, or by a signed list of an update.

A list has one line per file: `SHA-256  path`, or `-  path` for a file that was removed. With `NAME.files.sig`, an ssh
signature in the namespace `vault-cube-update` by a key that the image names, the list counts as signed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vault_cube.drift.manifest import HOME, Manifest
from vault_cube.drift.programs import output
from vault_cube.drift.reading import content, text
from vault_cube.drift.scan import Difference

GUARDED = (HOME, "opt/vault-cube/checkout", "opt/vault-cube/salt", "etc/salt")
"""Folders from which Salt and this program run; states are applied only if they are as the image has them."""
OWNERS_PILLAR = "opt/vault-cube/checkout/pillar/local.sls"
ENDING = ".files"
NAMESPACE = "vault-cube-update"
GONE = "-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")


class NameRefusedError(Exception):
    """A list cannot have this name. The message is one line: the name, the reason, and what to do."""


@dataclass(frozen=True)
class Accepted:
    """The accepted content of guarded files."""

    contents: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Path and SHA-256 (or GONE) → who accepted it."""

    def reason(self, root: Path, difference: Difference) -> str:
        """Return who accepted a difference, or an empty string. Only root's files without write access pass."""
        path = root / difference.path
        if not difference.path.startswith(GUARDED):
            return ""
        if difference.path == OWNERS_PILLAR:
            return "the owner's pillar" if only_root_writes(path) else ""
        who = self.contents.get((difference.path, content_of(path)), "")
        return who if who and (difference.kind == "missing" or only_root_writes(path)) else ""


def content_of(path: Path) -> str:
    """Return the SHA-256 of a file, `link TARGET`, `folder`, or GONE."""
    try:
        if path.is_symlink():
            return f"link {path.readlink()}"
        return "folder" if path.is_dir() else hashlib.sha256(content(path)).hexdigest()
    except OSError:
        return GONE


def only_root_writes(path: Path) -> bool:
    """Return whether a path belongs to root, and group and others cannot write it; also if it does not exist."""
    try:
        status = path.lstat()
    except OSError:
        return True  # removed: the box uses the image's values
    return status.st_uid == 0 and not status.st_mode & 0o022


def load(folder: Path, manifest: Manifest) -> Accepted:
    """Read the lists in a folder. A list with a wrong signature does not count."""
    contents: dict[tuple[str, str], str] = {}
    for file in sorted(folder.glob(f"*{ENDING}")):
        signature = file.with_name(f"{file.name}.sig")
        signers = manifest.header["signers"]
        who = _signer(file, signature, signers) if signature.exists() else f"root ({file.stem})"
        if not who:
            continue
        for line in text(file).splitlines():
            digest, _, path = line.partition("  ")
            contents[path, digest] = f"accepted by {who}"
    return Accepted(contents)


def lines(root: Path, differences: Iterable[Difference]) -> str:
    """Return a list that accepts the present content of some files."""
    return "".join(f"{content_of(root / difference.path)}  {difference.path}\n" for difference in differences)


def add(folder: Path, name: str, text: str) -> Path:
    """Write a new list into a folder, whole or not at all, and never over another one.

    name: without ENDING. Returns the file. Raises NameRefusedError if a list or a signature has this name, or if it is
    no plain name; OSError if the list cannot be written.
    """
    if not NAME.fullmatch(name):
        raise NameRefusedError(f"{name!r}: not a name: use letters, digits, and . _ : - after the first of them")
    file = folder / f"{name}{ENDING}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.lexists(f"{file}.sig"):
        # the signature is of another content, so a list beside it would not count
        raise NameRefusedError(f"{file}.sig: belongs to a signed update of this name: choose another name")
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new.")
    try:
        with os.fdopen(handle, "w", errors="surrogateescape") as out:
            out.write(text)
        os.link(temporary, file)  # fails if the file exists, which a rename would replace
    except FileExistsError as err:
        raise NameRefusedError(f"{file}: exists, and is kept: choose another name, or no name") from err
    finally:
        Path(temporary).unlink()
    return file


def _signer(file: Path, signature: Path, signers: Iterable[str]) -> str:
    """Return who has signed a list, or an empty string if nobody whose key the image names."""
    with tempfile.TemporaryDirectory() as folder:
        allowed = Path(folder) / "signers"
        allowed.write_text("".join(f'update namespaces="{NAMESPACE}" {key}\n' for key in signers))
        command: list[str | Path] = ["/usr/bin/ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "update"]
        command += ["-n", NAMESPACE, "-s", signature]
        signed = output(command, content(file)) is not None
    return f"the signed update {file.stem}" if signed else ""
