"""The release on a box: the checkout that a rollout puts in place of the image's, and the way back to the previous one.

A release is an archive of the checkout at a commit. It is installed by exchanging two folders at once, so that a box
that loses power has either the one or the other. What remains to be done after the exchange is in the release's record,
and the next function that is called here does it (`settle`).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vault_cube import process
from vault_cube.carried import carried, mode
from vault_cube.errors import VaultCubeError
from vault_cube.image.attest import signature

RECORD = ".release.json"
"""In the checkout: which release it is. Hidden, so that no list of the checkout's sources contains it."""
IMAGE = "image"
"""The name of the release that came with the image."""
NAMESPACE = "vault-cube-release"
"""What a signature of a release is for: a signature of an image by the same key is not valid here."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class Release(NamedTuple):
    """A checkout on the box."""

    commit: str
    applied: bool
    """Whether its states were applied on this box without a failure."""
    accepted: bool
    """Whether all checks of a rollout passed on this box afterwards."""
    replaced: str | None = None
    """The release in whose place it was put."""
    trusted: bool = True
    """Whether the box's guard was told that this release is here; false from the exchange of the folders until then."""


class Place(NamedTuple):
    """The folders of a box's releases."""

    checkout: Path
    drift: Path = Path("/usr/lib/vault-cube/drift")
    """The program that refuses to apply states from files that differ from the image; only images have it."""

    @property
    def previous(self) -> Path:
        """The release before this one."""
        return self.checkout.with_name("previous")

    @property
    def new(self) -> Path:
        """A whole release that is about to be exchanged with the checkout; afterwards, for a moment, the former one."""
        return self.checkout.with_name(".new")


def read(folder: Path) -> Release | None:
    """Return the release in a folder, None if there is no such folder."""
    if not folder.is_dir():
        return None
    try:
        record = json.loads((folder / RECORD).read_text())
        return Release(
            str(record["commit"]),
            record["applied"] is True,
            record["accepted"] is True,
            record.get("replaced"),
            record.get("trusted", True) is True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Release(IMAGE, applied=True, accepted=True)


def version(place: Place) -> dict[str, Any]:
    """Return commit, applied and accepted of the box's release, and previous: the commit before it, or None."""
    release, previous = read(place.checkout), read(place.previous)
    if release is None:
        raise VaultCubeError(f"{place.checkout}: no such folder: write the image again")
    return {
        "commit": release.commit,
        "applied": release.applied,
        "accepted": release.accepted,
        "previous": previous.commit if previous else None,
    }


def update(
    place: Place, target: str, commit: str, sha256: str, archive: Path, *, signers: Sequence[str] = ()
) -> dict[str, Any]:
    """Install a release and keep the former one beside it. Applies nothing. Does nothing if the box has it.

    target: the box's target. archive: a tar of the checkout; its signature is beside it. sha256: its digest, from the
    master. signers: public keys of which one has to have signed the archive; none: the digest suffices.
    Returns the fields of `version`, and changed. Raises VaultCubeError if the archive is damaged, not complete, or not
    signed.
    """
    settle(place)
    before = version(place)
    if before["commit"] == commit:
        return {**before, "changed": False}
    try:
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as err:
        raise VaultCubeError(f"{archive}: {err.strerror}") from err
    if digest != sha256:
        raise VaultCubeError(f"release {commit[:12]}: the archive has another SHA-256 than the master announced")
    if signers:
        _verify(archive, signers)
    guard(place)
    with _errors(place):
        _prepare(place, archive, target, Release(commit, False, False, before["commit"], trusted=False))
        try:
            exchange(place.new, place.checkout)
        except VaultCubeError:
            shutil.rmtree(place.new, ignore_errors=True)
            raise
    settle(place)
    return {**version(place), "changed": True}


def rollback(place: Place) -> dict[str, Any]:
    """Exchange the release and the previous one. Applies nothing. Raises VaultCubeError without a previous one."""
    settle(place)
    release, previous = read(place.checkout), read(place.previous)
    if release is None or previous is None:
        raise VaultCubeError("there is no previous release on this box: roll an older commit out instead")
    guard(place)
    with _errors(place):
        _write(place.previous, Release(previous.commit, False, False, release.commit, trusted=False))
        exchange(place.previous, place.checkout)
    settle(place)
    return version(place)


def settle(place: Place) -> None:
    """Finish an exchange of folders that lost power or was killed: name the former release, and tell the guard.

    Raises VaultCubeError.
    """
    release = read(place.checkout)
    if release is None:
        return
    with _errors(place):
        former = read(place.new)
        if former and former.commit == release.replaced:
            shutil.rmtree(place.previous, ignore_errors=True)
            place.new.rename(place.previous)
        shutil.rmtree(place.new, ignore_errors=True)
        if not release.trusted:
            if place.drift.exists():
                process.run([place.drift, "accept"])
            _write(place.checkout, release._replace(trusted=True))


def guard(place: Place) -> None:
    """Refuse a box whose Salt or checkout somebody has changed. Raises VaultCubeError with the changed files."""
    settle(place)
    if not place.drift.exists():
        return
    ran = process.run([place.drift, "guard"], ok=None)
    if ran.returncode:
        raise VaultCubeError(ran.stderr.strip() or f"{place.drift} guard: exit status {ran.returncode}")


def record(place: Place, *, applied: bool | None = None, accepted: bool | None = None) -> dict[str, Any]:
    """Record that the release was applied or accepted; None changes nothing. Returns the fields of `version`."""
    release = read(place.checkout) or Release(IMAGE, applied=False, accepted=False)
    _write(
        place.checkout,
        release._replace(
            applied=release.applied if applied is None else applied,
            accepted=release.accepted if accepted is None else accepted,
        ),
    )
    return version(place)


def _verify(archive: Path, signers: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "signers")
        keys.write_text("\n".join(signers) + "\n")
        try:
            signature.verify(archive, keys, NAMESPACE)
        except VaultCubeError as err:
            raise VaultCubeError(f"release not installed: {str(err).replace(str(keys), 'fleet:signers')}") from err


def _prepare(place: Place, archive: Path, target: str, release: Release) -> None:
    """Make `place.new` from an archive, with the box's own pillar. It appears when it is whole, or not at all."""
    incoming = place.new.with_name(".incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        _unpack(archive, incoming, target)
        own = place.checkout / "pillar/local.sls"
        if own.exists():
            shutil.copy2(own, incoming / "pillar/local.sls")
        _write(incoming, release)
        incoming.rename(place.new)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _unpack(archive: Path, folder: Path, target: str) -> None:
    """Unpack the files that a box of a target carries, with the permissions that they have on a box."""
    whole = folder.with_name(".unpacked")
    shutil.rmtree(whole, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12 has Python 3.11.2, without it
            members = [member for member in tar if member.isreg() and _inside(member.name)]
            tar.extractall(whole, members)  # noqa: S202 files below the folder only
        if not (whole / "pillar/targets" / f"{target}.sls").is_file():
            raise VaultCubeError(f"{archive.name}: the release does not have this box's target, {target}")
        for path, file in carried(whole, target).items():
            copy = folder / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(mode(file))
    except (OSError, tarfile.TarError) as err:
        raise VaultCubeError(f"{archive.name}: cannot unpack the release: {err}") from err
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in Path(name).parts


def _write(folder: Path, release: Release) -> None:
    file = folder / RECORD
    new = file.with_name(f"{RECORD}.new")
    new.write_text(json.dumps(release._asdict()))
    new.replace(file)


@contextmanager
def _errors(place: Place) -> Iterator[None]:
    """Raise VaultCubeError in one line for a full or read-only disk."""
    try:
        yield
    except OSError as err:
        raise VaultCubeError(f"{err.filename or place.checkout.parent}: {err.strerror}") from err


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders of a file system in one step (renameat2). Raises VaultCubeError."""
    # a power cut right after the exchange must not leave a checkout whose files are not on the disk yet
    os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        reason = os.strerror(ctypes.get_errno())
        raise VaultCubeError(f"cannot exchange {one} and {other}: {reason}")
