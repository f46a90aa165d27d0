"""The URLs of an archive: the mirror in the pillar, those of this machine, that of the source, and a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vault_cube import process
from vault_cube.settings.image import Source


@dataclass(frozen=True)
class Repository:
    """One index that this machine's apt has fetched, described by its signed Release file."""

    uri: str
    origin: str
    label: str
    suite: str
    """The suite as this machine's apt sources name it."""
    architecture: str


@lru_cache(maxsize=1)
def of_machine() -> tuple[Repository, ...]:
    """List the HTTP repositories of this machine's apt whose indexes have been fetched.

    Origin and Label come from the Release file, so a repository is left out until `apt-get update` has run.
    """
    variables = ("REPO_URI", "ORIGIN", "LABEL", "RELEASE", "ARCHITECTURE")
    line = "\t".join(f"$({name})" for name in variables)
    try:
        listed = process.run(["apt-get", "indextargets", "--format", line, "Created-By: Packages"]).stdout
    except process.CommandFailed:
        return ()
    repositories = (Repository(*fields) for fields in (line.split("\t") for line in listed.splitlines()))
    # only apt itself can fetch from cdrom:, mirror+file: and similar URLs
    return tuple(entry for entry in repositories if entry.uri.startswith(("http://", "https://")))


def nearby(source: Source, architecture: str) -> list[str]:
    """Return the URLs of this machine's mirrors of a source's archive; mirrors with the same suites come first.

    An archive is identified by the Origin and Label of its Release file, not by its URL: the URLs of Docker's
    repository and of PPAs end in `/ubuntu` as well.
    """
    suites: dict[str, set[str]] = {}
    for repository in of_machine():
        same = (repository.label.lower(), repository.origin.lower()) == (
            source.archive,
            source.archive.partition("-")[0],
        )
        if same and repository.architecture == architecture:
            suites.setdefault(repository.uri.rstrip("/"), set()).add(repository.suite)
    return sorted(suites, key=lambda uri: -len(suites[uri] & set(source.suites)))


def live(source: Source, configured: dict[str, str], architecture: str) -> list[str]:
    """Return the URLs of a source's archive in its current state, in the order in which they are tried.

    configured: pillar key image:mirrors. A mirror from there is the user's choice, so it is the only one.
    """
    chosen = configured.get(source.archive)
    return [chosen] if chosen else list(dict.fromkeys([*nearby(source, architecture), source.mirror]))


def all_places(sources: Sequence[Source], configured: dict[str, str], architecture: str, date: str) -> list[str]:
    """Return all URLs that may have a file of an archive, in the order in which they are tried.

    The last one is a snapshot, which still has the files that the archive has removed.

    sources: all sources of one archive. configured: pillar key image:mirrors. date: the lock's timestamp, such as
    20261124T000000Z.
    """
    places = [configured.get(source.archive) for source in sources]
    places += [place for source in sources for place in (*nearby(source, architecture), source.mirror)]
    places += [source.snapshot.format(date=date) for source in sources if source.snapshot]
    return list(dict.fromkeys(place for place in places if place))
