"""Where the files of an archive are fetched from: the pillar's mirror, this machine's, the source's own, a snapshot."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vault_cube.settings.image import Source


@dataclass(frozen=True)
class Repository:
    """One index that this machine's apt has fetched, described by its signed Release file."""

    uri: str
    origin: str
    label: str
    suite: str
    """as the machine's apt sources spell it"""
    architecture: str


@lru_cache(maxsize=1)
def of_machine() -> tuple[Repository, ...]:
    """List the repositories of this machine's apt that speak HTTP and whose indexes have been fetched.

    apt knows Origin and Label from the Release file alone: a repository is left out until `apt-get update` has run.
    """
    variables = ("REPO_URI", "ORIGIN", "LABEL", "RELEASE", "ARCHITECTURE")
    line = "\t".join(f"$({name})" for name in variables)
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", line, "Created-By: Packages"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ()
    found = (Repository(*fields) for fields in (line.split("\t") for line in listed.splitlines()))
    # apt also reads cdrom:, mirror+file: and the like, from which nothing else could fetch
    return tuple(entry for entry in found if entry.uri.startswith(("http://", "https://")))


def nearby(source: Source, architecture: str) -> list[str]:
    """This machine's copies of a source's archive; those that it uses for the same suites come first.

    An archive is known by the Origin and Label of its Release file, never by its address: Docker's repository and
    every PPA end in `/ubuntu`, too.
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
    """The places that serve a source's archive as it is today, best first.

    configured: pillar key image:mirrors. A mirror from there is the user's choice, so no other place is tried.
    """
    chosen = configured.get(source.archive)
    return [chosen] if chosen else list(dict.fromkeys([*nearby(source, architecture), source.mirror]))


def all_places(sources: Sequence[Source], configured: dict[str, str], architecture: str, date: str) -> list[str]:
    """Every place that may have a file of an archive, best first; the snapshot of a date keeps what others drop.

    sources: all of the one archive. date: the lock's moment, such as 20261124T000000Z.
    """
    places = [configured.get(source.archive) for source in sources]
    places += [place for source in sources for place in (*nearby(source, architecture), source.mirror)]
    places += [source.snapshot.format(date=date) for source in sources if source.snapshot]
    return list(dict.fromkeys(place for place in places if place))
