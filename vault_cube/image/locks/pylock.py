"""`python-<name>.lock`: the wheels of one environment in requirements form, without any index line.

uv resolves; the one file that the target's Python would install is chosen here, so that a lock names exact bytes. A
line is `name==version --hash=sha256:…  # file size`, the size in bytes; pip and uv take the end for a comment.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import requests
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import locktext
from vault_cube.settings import Settings
from vault_cube.settings.environment import Environment

# The newest manylinux platform that uv knows by name. uv only resolves: `tags` chooses among the files that it lists.
UV_GLIBC = 40

REQUESTS = 8
"""requests for sizes at the same time, where an index names none"""


@dataclass(frozen=True)
class Wheel:
    """One line of the lock (a source archive where no wheel exists)."""

    name: str
    version: str
    sha256: str
    file: str
    size: int
    """bytes"""


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
    locktext.hold(file, body)
    return wheels


def text(wheels: Sequence[Wheel]) -> str:
    """Write a lock's text."""
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
    """The number after `2.`, which is what manylinux tags differ in (PEP 600)."""
    return int(glibc.removeprefix("2."))


def machine_indexes() -> list[str]:
    """uv's options for the indexes that pip on this machine is configured with (uv does not read pip's settings)."""
    ran = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    options: list[str] = []
    for line in ran.stdout.splitlines():
        key, _, value = line.partition("=")
        name = {"index-url": "--index-url", "extra-index-url": "--extra-index-url", "find-links": "--find-links"}.get(
            key.rpartition(".")[2]
        )
        if name:
            options += [part for place in value.strip("'\"").split() for part in (name, place)]
    return options


def _compile(
    settings: Settings, uv: Path, work: Path, requirements: str, arguments: Sequence[str]
) -> list[dict[str, Any]]:
    """What uv makes of requirements for the target's Python: the packages of a pylock.toml."""
    (work / "requirements.in").write_text(requirements)
    out = work / "pylock.toml"
    out.unlink(missing_ok=True)
    archive = settings.archive
    own = ["--index-url", archive.wheel_index] if archive.wheel_index else machine_indexes()
    extra = [part for place in archive.extra_wheel_indexes for part in ("--extra-index-url", place)]
    error, unknown = "", False
    # an extra index that cannot be reached matters only when the others lack something
    for indexes in [own, [*own, *extra]] if extra else [own]:
        ran = subprocess.run(
            [uv, "pip", "compile", "-q", "--no-config", "--format", "pylock.toml", "--output-file", out,
             "--python-version", settings.target.python,
             "--python-platform", f"x86_64-manylinux_2_{min(_release(settings.target.glibc), UV_GLIBC)}",
             "--index-strategy", "unsafe-best-match", *indexes, *arguments, work / "requirements.in"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode == 0:
            packages: list[dict[str, Any]] = tomllib.loads(out.read_text()).get("packages", [])
            return packages
        # uv ends with 1 when no index has it, with 2 when it could not look
        unknown = unknown or ran.returncode == 1
        error = error or _reason(ran.stderr)
    kind = Unknown if unknown else VaultCubeError
    raise kind(f"uv cannot resolve {requirements.splitlines()[0]} …: {error}")


def _reason(said: str) -> str:
    """Why uv failed, from the causes that it lists: the address and the last of them where one could not be reached."""
    causes = [line.strip().removeprefix("cause: ") for line in said.splitlines() if line.strip()]
    address = next((line.split()[-1] for line in causes if line.startswith("Failed to fetch")), None)
    return f"{address}: {causes[-1]}" if address else " ".join(said.removeprefix("error: ").split())[:400]


class Unknown(VaultCubeError):
    """No index has what is asked for."""


def _candidates(package: dict[str, Any], accepted: dict[Tag, int]) -> list[tuple[int, dict[str, Any]]]:
    """A package's files with their rank for the target, best first; a source archive comes last."""
    found = []
    for wheel in package.get("wheels", []):
        ranks = [accepted[tag] for tag in parse_wheel_filename(filename(wheel))[3] if tag in accepted]
        if ranks:
            found.append((min(ranks), wheel))
    if "sdist" in package:
        found.append((len(accepted), package["sdist"]))
    return sorted(found, key=lambda pair: pair[0])


def filename(file: dict[str, Any]) -> str:
    """The name of a file in a pylock.toml."""
    return str(file.get("name") or unquote(Path(urlparse(file.get("url") or file["path"]).path).name))


@dataclass(frozen=True)
class Kept:
    """What a lock holds on to while the rest of it is resolved anew."""

    folder: Path
    """where its files are"""
    wheels: Sequence[Wheel]
    pinned: bool = True
    """False: newer ones may take their place"""


def resolve(
    settings: Settings, uv: Path, environment: Environment, work: Path, *, kept: Kept | None = None
) -> list[Wheel]:
    """Resolve an environment for the target's Python and pick each package's one file."""
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
            raise VaultCubeError(
                f"{package['name']} {package['version']}: no file fits Python {settings.target.python}"
            )
        files.append((package, candidates[0][1]))
    with ThreadPoolExecutor(REQUESTS) as pool:
        sizes = pool.map(lambda pair: _size(pair[1], work), files)
        wheels += [
            Wheel(package["name"], package["version"], file["hashes"]["sha256"], filename(file), size)
            for (package, file), size in zip(files, sizes, strict=True)
        ]
    return wheels


def _place(file: dict[str, Any], work: Path) -> str:
    """The address of a file in a pylock.toml. work: the folder of that pylock.toml."""
    return str(file.get("url") or (work / file["path"]).resolve().as_uri())


def _size(file: dict[str, Any], work: Path) -> int:
    """The size of a file in a pylock.toml, bytes: what the index says, else what the file's own server says."""
    if "size" in file:
        return int(file["size"])
    place = _place(file, work)
    if place.startswith("file:"):
        return Path(unquote(urlparse(place).path)).stat().st_size
    try:
        # compressed on the way it would have another length
        answer = requests.head(place, timeout=30, allow_redirects=True, headers={"Accept-Encoding": "identity"})
        answer.raise_for_status()
        return int(answer.headers["Content-Length"])
    except (requests.RequestException, KeyError, ValueError) as err:
        raise VaultCubeError(
            f"{place}: cannot find out its size ({err}): name an index with sizes in pillar key archive:wheel_index"
        ) from None


def locate(settings: Settings, uv: Path, wheels: Sequence[Wheel], work: Path) -> dict[str, str]:
    """Where locked files are served today: sha256 → address. What no index has any more is not in it."""
    if not wheels:
        return {}
    pins = "\n".join(f"{wheel.name}=={wheel.version}" for wheel in wheels)
    found: dict[str, str] = {}
    try:
        packages = _compile(settings, uv, work, pins, ["--no-deps"])
    except Unknown:
        # one of them spoils it for all: look for it in ever smaller parts
        half = len(wheels) // 2
        parts = (wheels[:half], wheels[half:]) if half else ()
        return {sha256: place for part in parts for sha256, place in locate(settings, uv, part, work).items()}
    for package in packages:
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]:
            found[file["hashes"]["sha256"]] = _place(file, work)
    return found
