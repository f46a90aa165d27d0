"""Fetch all locked files into the store; from then on the build needs no network."""

from __future__ import annotations

from collections.abc import Sequence

from vault_cube.image.inputs import Locks
from vault_cube.image.locks import mirrors, pylock, vendors
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Failure, Store, Unavailable, Wanted
from vault_cube.image.workspace import Workspace
from vault_cube.settings.image import Source


def wanted_debs(lock: AptLock, sources: Sequence[Source], configured: dict[str, str]) -> list[Wanted]:
    """List the files of an apt lock with the URLs that may have them.

    configured: pillar key image:mirrors.
    """
    architecture = next((deb.architecture for deb in lock.debs if deb.architecture != "all"), "")
    places = {
        archive: mirrors.all_places(
            [source for source in sources if source.archive == archive], configured, architecture, lock.date
        )
        for archive in {source.archive for source in sources}
    }
    return [
        Wanted(
            deb.sha256,
            deb.filename,
            deb.size,
            tuple(f"{place}/{deb.path}" for place in places.get(deb.archive, [])),
            by_apt=True,
        )
        for deb in lock.debs
    ]


def wanted_wheels(space: Workspace, store: Store, locks: Locks) -> list[Wanted]:
    """List the locked wheels that the store lacks, with their URLs from the package indexes.

    Raises VaultCubeError if the indexes cannot be queried.
    """
    missing = []
    for locked in locks.wheels.values():
        wheels = [wheel for wheel in locked if not store.has(wheel.sha256)]
        with space.scratch("locate") as work:
            places = pylock.locate(space.settings, space.uv, wheels, work)
        missing += [
            Wanted(wheel.sha256, wheel.file, wheel.size, (places[wheel.sha256],) if wheel.sha256 in places else ())
            for wheel in wheels
        ]
    return missing


def fetch(space: Workspace, locks: Locks) -> int:
    """Fetch all locked files that the store lacks.

    Returns the number of bytes fetched. Raises Unavailable if files could not be fetched, with each of them.
    """
    store, image = Store(space.store), space.settings.image
    sources = [*space.settings.archive.sources, *vendors.sources(space, space.locks)]
    debs = wanted_debs(locks.packages, sources, image.mirrors) + vendors.wanted(space, locks.vendor_keys)
    debs += wanted_debs(locks.tools, image.tools.sources, image.mirrors)
    fetched = 0
    failures: list[Failure] = []
    for title in ("packages", "wheels"):
        try:
            # query the package indexes last: a package failure that re-resolving cannot fix ends the build before
            fetched += store.fetch(debs if title == "packages" else wanted_wheels(space, store, locks), title)
        except Unavailable as err:
            if not err.gone:
                raise
            failures += err.failures
    if failures:
        raise Unavailable(failures)
    return fetched
