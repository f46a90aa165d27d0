"""Bring everything that the locks name into the store; after this the build needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vault_cube.image.layers import tools
from vault_cube.image.locks import mirrors, pylock, vendors
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Failure, Store, Unavailable, Wanted
from vault_cube.image.workspace import Workspace
from vault_cube.settings.image import Source


def wanted_debs(lock: AptLock, sources: Sequence[Source], configured: dict[str, str]) -> list[Wanted]:
    """The lock's packages, with the places that may serve them."""
    architecture = next((deb.architecture for deb in lock.debs if deb.architecture != "all"), "")
    places = {
        archive: mirrors.all_places(
            [source for source in sources if source.archive == archive], configured, architecture, lock.date
        )
        for archive in {source.archive for source in sources}
    }
    return [
        Wanted(
            deb.sha256, deb.filename, deb.size, tuple(f"{place}/{deb.path}" for place in places.get(deb.archive, []))
        )
        for deb in lock.debs
    ]


def wanted_wheels(space: Workspace, store: Store, environments: Iterable[list[pylock.Wheel]]) -> list[Wanted]:
    """The wheels of environments; an index is asked only for what is not in the store."""
    missing = []
    for locked in environments:
        wheels = [wheel for wheel in locked if not store.has(wheel.sha256)]
        with space.scratch("locate") as work:
            places = pylock.locate(space.settings, space.uv, wheels, work)
        missing += [
            Wanted(wheel.sha256, wheel.file, wheel.size, (places[wheel.sha256],) if wheel.sha256 in places else ())
            for wheel in wheels
        ]
    return missing


def fetch(space: Workspace) -> int:
    """Fetch what the store lacks; returns the bytes that came. Raises Unavailable naming all that did not."""
    store, image = Store(space.store), space.settings.image
    lock = AptLock.read(space.locks / "apt.lock")
    # all wanted files are known, and read from valid locks, before the first byte is fetched
    sources = [*space.settings.archive.sources, *vendors.sources(space, space.locks)]
    debs = wanted_debs(lock, sources, image.mirrors) + vendors.wanted(space)
    debs += wanted_debs(tools.lock(space), image.tools.sources, image.mirrors)
    names = ("salt", *space.settings.frameworks.environments)
    environments = [pylock.read(space.locks / f"python-{name}.lock") for name in names]
    fetched = 0
    failures: list[Failure] = []
    for title in ("packages", "wheels"):
        try:
            # an index is asked only when the packages are there, or gone for good
            fetched += store.fetch(debs if title == "packages" else wanted_wheels(space, store, environments), title)
        except Unavailable as err:
            if not err.gone:
                raise
            failures += err.failures
    if failures:
        raise Unavailable(failures)
    return fetched
