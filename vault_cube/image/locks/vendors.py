"""The vendors' apt repositories of a target: their signing keys, locked by SHA-256, and their pins.

`locks/<target>/keyrings.lock` has one line per key: repository, SHA-256, size. The URL of a key is in the pillar.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import requests

from vault_cube import openpgp
from vault_cube.errors import VaultCubeError
from vault_cube.image.apt_network import session
from vault_cube.image.locks import locktext
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.store import Store, Wanted
from vault_cube.image.workspace import KEYRINGS, Workspace
from vault_cube.settings.image import Source
from vault_cube.settings.repository import Repository


def repositories(space: Workspace) -> list[Repository]:
    """Return the vendors' repositories of all layers of a target."""
    return [*space.settings.driver.repositories, *space.settings.runtime.repositories]


Keys = dict[str, tuple[str, int]]
"""Repository -> (SHA-256, size in bytes) of its signing key."""


def read(space: Workspace) -> Keys:
    """Read the lock of the signing keys. Raises VaultCubeError if it is damaged or does not match the pillar."""
    wanted = {repository.name for repository in repositories(space)}
    if not wanted:
        return {}
    file = space.locks / KEYRINGS
    body = locktext.read(file)
    keys = {}
    for number, line in enumerate(body.splitlines(), 1):
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9-]+) ([0-9a-f]{64}) (\d+)", line)
        if not match:
            raise VaultCubeError(f"{file}: line {number}: not an entry of a key: restore the file, or run `make lock`")
        keys[match[1]] = (match[2], int(match[3]))
    locktext.verify(file, body)
    if keys.keys() != wanted:
        raise VaultCubeError(
            f"{file}: does not match the pillar's repositories ({', '.join(sorted(keys.keys() ^ wanted))}): "
            "run `make lock`"
        )
    return keys


def lock(space: Workspace) -> Keys:
    """Fetch each vendor's signing key, compare it with the pillar, and add it to the store. Returns the keys to lock.

    Raises VaultCubeError if a key cannot be fetched or differs from the pillar.
    """
    store, keys = Store(space.store), {}
    for repository in repositories(space):
        key = repository.keyring
        data = _served(key.url)
        digest = hashlib.sha256(data).hexdigest()
        if key.sha256 and digest != key.sha256:
            raise VaultCubeError(f"{key.url}: its sha256 is {digest}, but the pillar has {key.sha256}: ask the vendor")
        try:
            fingerprints = openpgp.primary_keys(data)
        except ValueError as err:
            raise VaultCubeError(f"{key.url}: not a keyring: {err}") from err
        if fingerprints != [key.fingerprint]:
            raise VaultCubeError(
                f"{key.url}: contains the key {', '.join(fingerprints)}, but the pillar has {key.fingerprint}: "
                "ask the vendor"
            )
        keys[repository.name] = store.add(data), len(data)
    return keys


def text(keys: Keys) -> str:
    """Return the text of the lock."""
    return locktext.closed("".join(f"{name} {sha256} {size}\n" for name, (sha256, size) in sorted(keys.items())))


def _served(url: str) -> bytes:
    """Fetch a URL. Raises VaultCubeError if that fails."""
    try:
        if url.startswith("file://"):
            return Path(url.removeprefix("file://")).read_bytes()
        response = session().get(url, timeout=30)
        response.raise_for_status()
    except (OSError, requests.RequestException) as err:
        raise VaultCubeError(f"{url}: the vendor's key cannot be fetched: {err}") from err
    return response.content


def wanted(space: Workspace, locked: Keys) -> list[Wanted]:
    """List the signing keys as files that the build needs."""
    return [
        Wanted(
            locked[repository.name][0],
            f"{repository.name}'s key",
            locked[repository.name][1],
            (repository.keyring.url,),
        )
        for repository in repositories(space)
    ]


def lay_out(store: Store, keys: Keys, folder: Path) -> None:
    """Verify the signing keys and link them into a folder as `<repository>.asc`."""
    store.link([(sha256, f"{name}.asc") for name, (sha256, _) in keys.items()], folder)


def sources(space: Workspace, keys: Path) -> list[Source]:
    """Convert the repositories to apt sources. keys: a folder filled by `lay_out`."""
    # model_construct skips the checks of Source, which reject file: URLs; a vendor's repository may have one
    return [
        Source.model_construct(
            archive=repository.name,
            mirror=repository.uri.rstrip("/"),
            snapshot=None,
            suites=[repository.suite],
            components=repository.components,
            keyring=str(keys / f"{repository.name}.asc"),
        )
        for repository in repositories(space)
    ]


def preferences(wanted: Sequence[Repository]) -> str:
    """Return the apt preferences that salt/driver/repository.jinja writes on a box, so that locks use the same pins."""
    entries = []
    for repository in wanted:
        version = repository.pin.version
        for package in repository.pin.packages:
            pin = f"version {version}\nPin-Priority: 1001" if version else _origin(repository, 600)
            entries.append(f"Package: {package}\nPin: {pin}")
        entries.append(f"Package: *\nPin: {_origin(repository, -1)}")
    return "\n\n".join(entries) + "\n"


def check_pins(wanted: Sequence[Repository], debs: Iterable[Deb]) -> None:
    """Check that only packages named by a repository's pin come from that repository.

    apt identifies a repository by its host, so the preferences do not apply to a mirror from image:mirrors. Raises
    VaultCubeError with the first other package.
    """
    patterns = {repository.name: repository.pin.packages for repository in wanted}
    for deb in debs:
        named = patterns.get(deb.archive)
        if named is not None and not any(fnmatchcase(deb.name, pattern) for pattern in named):
            raise VaultCubeError(
                f"{deb.name} {deb.version} comes from repository {deb.archive}, whose pin does not name it: "
                "add it to pin:packages of the repository, or use a mirror that does not have it"
            )


def _origin(repository: Repository, priority: int) -> str:
    return f'origin "{repository.pin.origin}"\nPin-Priority: {priority}'
