"""The vendors' apt repositories of a target: their keys, locked by sha256, and what may come from them.

`locks/<target>/keyrings.lock` has a line a key: repository, sha256, size. Where the key is served stands in the pillar.
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
from vault_cube.image.cache.keys import KEYRINGS
from vault_cube.image.locks import locktext
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.store import Store, Wanted
from vault_cube.image.workspace import Workspace
from vault_cube.settings.image import Source
from vault_cube.settings.repository import Repository


def repositories(space: Workspace) -> list[Repository]:
    """All that the layers of a target name."""
    return [*space.settings.driver.repositories, *space.settings.runtime.repositories]


Keys = dict[str, tuple[str, int]]
"""repository -> (sha256, size in bytes)"""


def read(space: Workspace) -> Keys:
    """The locked keys. Raises VaultCubeError when one that the pillar names is not there."""
    wanted = {repository.name for repository in repositories(space)}
    if not wanted:
        return {}
    file = space.locks / KEYRINGS
    body = locktext.read(file)
    found = {}
    for number, line in enumerate(body.splitlines(), 1):
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9-]+) ([0-9a-f]{64}) (\d+)", line)
        if not match:
            raise VaultCubeError(f"{file}: line {number}: not a key: restore the file, or run `make lock`")
        found[match[1]] = (match[2], int(match[3]))
    locktext.hold(file, body)
    if found.keys() != wanted:
        raise VaultCubeError(
            f"{file}: {', '.join(sorted(found.keys() ^ wanted))}: not as in the pillar: run `make lock`"
        )
    return found


def lock(space: Workspace) -> Keys:
    """Bring each vendor's key into the store, once it is the one that the pillar names. Returns what is to be locked.

    Raises VaultCubeError for a key that cannot be had, or is another.
    """
    store, found = Store(space.store), {}
    for repository in repositories(space):
        key = repository.keyring
        data = _served(key.url)
        digest = hashlib.sha256(data).hexdigest()
        if key.sha256 and digest != key.sha256:
            raise VaultCubeError(f"{key.url}: its sha256 is {digest}, the pillar says {key.sha256}: ask the vendor")
        try:
            held = openpgp.primary_keys(data)
        except ValueError as err:
            raise VaultCubeError(f"{key.url}: no keyring: {err}") from None
        if held != [key.fingerprint]:
            raise VaultCubeError(
                f"{key.url}: it holds the key {', '.join(held)}, the pillar says {key.fingerprint}: ask the vendor"
            )
        found[repository.name] = store.add(data), len(data)
    return found


def text(keys: Keys) -> str:
    """The lock's text."""
    return locktext.closed("".join(f"{name} {sha256} {size}\n" for name, (sha256, size) in sorted(keys.items())))


def _served(url: str) -> bytes:
    """What an address gives. Raises VaultCubeError."""
    try:
        if url.startswith("file://"):
            return Path(url.removeprefix("file://")).read_bytes()
        answer = requests.get(url, timeout=30)
        answer.raise_for_status()
    except (OSError, requests.RequestException) as err:
        raise VaultCubeError(f"{url}: the vendor's key cannot be fetched: {err}") from None
    return answer.content


def wanted(space: Workspace) -> list[Wanted]:
    """The keys, as files that a build needs."""
    locked = read(space)
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
    """Put the keys into a folder as `<repository>.asc`, each verified."""
    store.link([(sha256, f"{name}.asc") for name, (sha256, _) in keys.items()], folder)


def sources(space: Workspace, keys: Path) -> list[Source]:
    """The repositories as sources for apt. keys: a folder that `lay_out` filled."""
    # the schema of a Source is the pillar's; a vendor's may also be a file: address
    return [
        Source.model_construct(
            archive=one.name,
            mirror=one.uri.rstrip("/"),
            snapshot=None,
            suites=[one.suite],
            components=one.components,
            keyring=str(keys / f"{one.name}.asc"),
        )
        for one in repositories(space)
    ]


def preferences(wanted: Sequence[Repository]) -> str:
    """apt's preferences: the pins that salt/driver/repository.jinja gives the box, so that the lock obeys them, too."""
    entries = []
    for one in wanted:
        for package in one.pin.packages:
            pin = f"version {one.pin.version}\nPin-Priority: 1001" if one.pin.version else _origin(one, 600)
            entries.append(f"Package: {package}\nPin: {pin}")
        entries.append(f"Package: *\nPin: {_origin(one, -1)}")
    return "\n\n".join(entries) + "\n"


def check_pins(wanted: Sequence[Repository], debs: Iterable[Deb]) -> None:
    """Check that each repository gave only what its pin names.

    apt knows a repository by its host, so that the preferences do not apply to a mirror from image:mirrors. Raises
    VaultCubeError naming the first package that the pin does not.
    """
    patterns = {repository.name: repository.pin.packages for repository in wanted}
    for deb in debs:
        named = patterns.get(deb.archive)
        if named is not None and not any(fnmatchcase(deb.name, pattern) for pattern in named):
            raise VaultCubeError(
                f"{deb.name} {deb.version} comes from repository {deb.archive}, whose pin does not name it: "
                "add it to pin:packages of the repository, or use a mirror without it"
            )


def _origin(one: Repository, priority: int) -> str:
    return f'origin "{one.pin.origin}"\nPin-Priority: {priority}'
