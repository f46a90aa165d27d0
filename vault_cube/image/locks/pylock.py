"""`python-<name>.lock`: the wheels of one environment as a requirements file, without index options.

uv resolves the versions; this module then chooses the one file that the target's Python would install, so that a lock
names exact bytes. A line is `name==version --hash=sha256:…  # file size`, with the size in bytes; pip and uv treat the
end of the line as a comment.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict
from urllib.parse import unquote, urlparse

import requests
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.apt_network import session
from vault_cube.image.locks import indexes, locktext
from vault_cube.settings import Settings
from vault_cube.settings.frameworks import Environment

# The newest manylinux platform that uv supports. uv only resolves versions; `tags` decides which files are accepted.
UV_GLIBC = 40

REQUESTS = 8
"""Number of concurrent requests for file sizes, if an index does not list them."""


@dataclass(frozen=True)
class Wheel:
    """One line of the lock; the file is a source archive if there is no wheel."""

    name: str
    version: str
    sha256: str
    file: str
    size: int
    """Size in bytes."""


class File(TypedDict):
    """A file in a pylock.toml (PEP 751)."""

    name: NotRequired[str]
    url: NotRequired[str]
    path: NotRequired[str]
    size: NotRequired[int]
    hashes: dict[str, str]


class Package(TypedDict):
    """A package in a pylock.toml (PEP 751)."""

    name: str
    version: str
    wheels: NotRequired[list[File]]
    sdist: NotRequired[File]


def read(file: Path) -> list[Wheel]:
    """Read a lock. Raises VaultCubeError naming file and line."""
    wheels = []
    body = locktext.read(file)
    for number, line in enumerate(body.splitlines(), 1):
        if line.startswith(locktext.MARK):
            continue
        match = re.fullmatch(r"([a-z0-9._-]+)==(\S+) --hash=sha256:([0-9a-f]{64})  # ([^\s/]+) (\d+)", line)
        if not match:
            raise VaultCubeError(
                f"{file}: line {number}: not a requirement with a hash, a file and its size: "
                "restore the file, or run `make lock`"
            )
        name, version, sha256, wheel, size = match.groups()
        wheels.append(Wheel(name, version, sha256, wheel, int(size)))
    locktext.verify(file, body)
    return wheels


def text(wheels: Sequence[Wheel]) -> str:
    """Return the text of a lock."""
    ordered = sorted(wheels, key=lambda wheel: wheel.name)
    return locktext.closed(
        "".join(
            f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}  # {wheel.file} {wheel.size}\n"
            for wheel in ordered
        )
    )


def tags(python: str, glibc: str) -> list[Tag]:
    """List the wheel tags that a target accepts, best first.

    python: version of its Python, major.minor. glibc: version of its C library, major.minor.
    """
    major, minor = (int(part) for part in python.split("."))
    platforms = [f"manylinux_2_{release}_x86_64" for release in range(_release(glibc), 4, -1)]
    platforms[-1:] = ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    accepted = list(cpython_tags((major, minor), platforms=platforms))
    return accepted + list(compatible_tags((major, minor), f"cp{major}{minor}", platforms))


def _release(glibc: str) -> int:
    """Return the minor version of glibc, as manylinux tags contain it (PEP 600)."""
    return int(glibc.removeprefix("2."))


def index_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of uv with the indexes of the pillar, or else with those of this machine's pip and uv.

    In the environment and not in uv's arguments, which every user of this machine can read: an index may have a login.
    """
    own = {**os.environ, **indexes.environment()}
    if settings.archive.wheel_index:
        own = {name: value for name, value in own.items() if name not in indexes.PLACES}
        own["UV_DEFAULT_INDEX"] = settings.archive.wheel_index
    return own


def _compile(settings: Settings, uv: Path, work: Path, requirements: str, arguments: Sequence[str]) -> list[Package]:
    """Resolve requirements for the target's Python with uv. Returns the packages of the resulting pylock.toml."""
    (work / "requirements.in").write_text(requirements)
    out = work / "pylock.toml"
    out.unlink(missing_ok=True)
    archive = settings.archive
    own = index_environment(settings)
    # an argument replaces the variable, and there are arguments for wheels to keep
    links = [part for place in own.pop("UV_FIND_LINKS", "").split(",") if place for part in ("--find-links", place)]
    extra = " ".join([own.get("UV_INDEX", ""), *archive.extra_wheel_indexes]).strip()
    error, unknown = "", False
    # try without the extra indexes first: an unreachable one is an error only if it is needed
    for more in ({}, {"UV_INDEX": extra}) if archive.extra_wheel_indexes else ({},):
        ran = process.run(
            [uv, "pip", "compile", "-q", "--no-config", "--format", "pylock.toml", "--output-file", out,
             "--python-version", settings.target.python,
             "--python-platform", f"x86_64-manylinux_2_{min(_release(settings.target.glibc), UV_GLIBC)}",
             "--index-strategy", "unsafe-best-match", *links, *arguments, work / "requirements.in"],
            ok=None, env={**own, **more},
        )  # fmt: skip
        if ran.returncode == 0:
            packages: list[Package] = tomllib.loads(out.read_text()).get("packages", [])
            return packages
        # uv exits with 1 if no index has a package, with 2 if it could not query an index
        unknown = unknown or ran.returncode == 1
        error = error or indexes.explained(ran.stderr)
    kind = Unknown if unknown else VaultCubeError
    raise kind(f"uv cannot resolve {requirements.splitlines()[0]} …: {error}")


class Unknown(VaultCubeError):
    """No index has a required package."""


def _candidates(package: Package, accepted: dict[Tag, int]) -> list[tuple[int, File]]:
    """Return the files of a package that the target accepts, with their ranks, best first; a source archive is last."""
    candidates = []
    for wheel in package.get("wheels", []):
        ranks = [accepted[tag] for tag in parse_wheel_filename(filename(wheel))[3] if tag in accepted]
        if ranks:
            candidates.append((min(ranks), wheel))
    if "sdist" in package:
        candidates.append((len(accepted), package["sdist"]))
    return sorted(candidates, key=lambda pair: pair[0])


def filename(file: File) -> str:
    """Return the name of a file in a pylock.toml."""
    return str(file.get("name") or unquote(Path(urlparse(file.get("url") or file["path"]).path).name))


@dataclass(frozen=True)
class Kept:
    """Locked wheels that stay as they are while the rest of the lock is re-resolved."""

    folder: Path
    """Folder of the wheels' files."""
    wheels: Sequence[Wheel]
    pinned: bool = True
    """If False, newer versions may replace them."""


def resolve(
    settings: Settings, uv: Path, environment: Environment, work: Path, *, kept: Kept | None = None
) -> list[Wheel]:
    """Resolve an environment for the target's Python and choose one file per package.

    uv: path of uv. work: folder for temporary files. kept: wheels to keep from an older lock. Raises VaultCubeError if
    the requirements cannot be resolved, or if a package has no file for the target.
    """
    (work / "overrides.txt").write_text("\n".join(environment.overrides))
    arguments = ["--override", str(work / "overrides.txt")] if environment.overrides else []
    locked = {(wheel.name, wheel.version): wheel for wheel in kept.wheels} if kept else {}
    if kept:
        arguments += ["--find-links", str(kept.folder)]
    if kept and kept.pinned:
        (work / "constraints.txt").write_text("".join(f"{name}=={version}\n" for name, version in locked))
        arguments += ["--constraint", str(work / "constraints.txt")]
    arguments += [part for name in environment.excluded for part in ("--no-emit-package", name)]
    accepted = {
        tag: rank for rank, tag in reversed(list(enumerate(tags(settings.target.python, settings.target.glibc))))
    }
    wheels, files = [], []
    for package in _compile(settings, uv, work, "\n".join(environment.requirements), arguments):
        if (package["name"], package["version"]) in locked:
            wheels.append(locked[package["name"], package["version"]])
            continue
        candidates = _candidates(package, accepted)
        if not candidates:
            raise VaultCubeError(f"{package['name']} {package['version']}: no file for Python {settings.target.python}")
        files.append((package, candidates[0][1]))
    with ThreadPoolExecutor(REQUESTS) as pool:
        sizes = pool.map(lambda pair: _size(pair[1], work), files)
        wheels += [
            Wheel(package["name"], package["version"], file["hashes"]["sha256"], filename(file), size)
            for (package, file), size in zip(files, sizes, strict=True)
        ]
    return wheels


def _place(file: File, work: Path) -> str:
    """Return the URL of a file in a pylock.toml. work: the folder of that pylock.toml."""
    return str(file.get("url") or (work / file["path"]).resolve().as_uri())


def _size(file: File, work: Path) -> int:
    """Return the size of a file in a pylock.toml, in bytes: from the index, else from the file's server."""
    if "size" in file:
        return int(file["size"])
    place = _place(file, work)
    if place.startswith("file:"):
        return Path(unquote(urlparse(place).path)).stat().st_size
    try:
        # compression would change the Content-Length
        response = session().head(place, timeout=30, allow_redirects=True, headers={"Accept-Encoding": "identity"})
        response.raise_for_status()
        return int(response.headers["Content-Length"])
    except (requests.RequestException, KeyError, ValueError) as err:
        raise VaultCubeError(
            f"{place}: cannot determine its size ({err}): "
            "name an index that lists sizes in pillar key archive:wheel_index"
        ) from err


def locate(settings: Settings, uv: Path, wheels: Sequence[Wheel], work: Path) -> dict[str, str]:
    """Look up the URLs of locked wheels. Returns SHA-256 -> URL, without the files that no index has any more."""
    if not wheels:
        return {}
    pins = "\n".join(f"{wheel.name}=={wheel.version}" for wheel in wheels)
    urls: dict[str, str] = {}
    try:
        packages = _compile(settings, uv, work, pins, ["--no-deps"])
    except Unknown:
        # uv fails if any package is missing: split the list until the missing ones are isolated
        half = len(wheels) // 2
        parts = (wheels[:half], wheels[half:]) if half else ()
        return {sha256: place for part in parts for sha256, place in locate(settings, uv, part, work).items()}
    for package in packages:
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]:
            urls[file["hashes"]["sha256"]] = _place(file, work)
    return urls
