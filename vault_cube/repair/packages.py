"""Find and install missing Debian packages, without a network from a folder of supplies.

Supplies are a flat apt repository (vault_cube/image/supplies.py). Only the files that the target's lock names are used:
the lock is on the box, so a folder or stick that somebody else has written cannot bring other packages.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vault_cube import process
from vault_cube.drift.running import SET_CLOCK

# as Salt's pkg.install: no questions, keep changed configuration files
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
    "UCF_FORCE_CONFFOLD": "1",
}
OPTIONS = ("-q", "-y", "-o", "DPkg::Options::=--force-confold", "-o", "DPkg::Options::=--force-confdef")
# a box without a network must not wait for each archive
PATIENCE = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15", "-o", "Acquire::https::Timeout=15")
FORMAT = "${Package}\t${Architecture}\t${db:Status-Eflag}\t${db:Status-Status}\t${Provides}\n"
# dpkg(1): all other states of a package are a transaction that has not finished
WHOLE = ("installed", "config-files", "not-installed")
UNREADABLE_LISTS = re.compile(r"could not be parsed or opened|no Package: header|Problem with MergeList|Couldn't stat")
WRONG_CLOCK = re.compile(r"is not valid yet|is expired|not yet valid|certificate has expired|not yet activated")


class State(NamedTuple):
    """The packages of a machine, as dpkg records them."""

    installed: set[str]
    """Names of installed packages, and of those that they provide."""
    unfinished: list[str]
    """Packages whose installation or removal was interrupted."""
    damaged: list[str]
    """Packages of those that dpkg wants to unpack again."""


def state(admin: Path = Path("/var/lib/dpkg")) -> State:
    """Read what is installed. admin: dpkg's database. Raises CommandFailed if dpkg cannot read it."""
    listed = process.run(["dpkg-query", f"--admindir={admin}", "--show", "--showformat", FORMAT], ok=(0, 1)).stdout
    installed, unfinished, damaged = set(), [], []
    for line in listed.splitlines():
        name, _, flag, status, provides = line.split("\t")
        if status not in WHOLE:
            unfinished.append(name)
        elif status == "installed":
            installed |= {name, *(part.split()[0] for part in provides.split(",") if part.strip())}
        if flag == "reinstreq":
            damaged.append(name)
    updates = admin / "updates"
    if not unfinished and updates.is_dir() and any(file.name.isdigit() for file in updates.iterdir()):
        unfinished = ["dpkg"]  # it was interrupted before it recorded a package's state
    return State(installed, unfinished, damaged)


def finish(damaged: Sequence[str], supplies: Path | None = None, lock: Path | None = None) -> str:
    """Finish interrupted installations.

    damaged: packages to unpack again, from the box's archives or from the supplies. supplies, lock: as for `install`.
    Returns an error message or "".
    """
    reasons = []
    if damaged:
        # first, because apt installs nothing else as long as a package is damaged
        ran = _apt(["--reinstall", "install", *damaged])
        if ran.returncode and supplies and lock and (supplies / "debs/Packages").is_file():
            reasons.append(_reason(ran.stderr))
            with _locked_part(supplies / "debs", lock.read_text()) as part:
                _apt([*part.options, "update"])
                # an update from the network may be newer than the supplies
                names = [f"{name}={part.versions[name]}" for name in damaged if name in part.versions]
                ran = _apt([*part.options, "--allow-downgrades", "--reinstall", "install", *(names or damaged)])
        if ran.returncode:
            reasons.append(_reason(ran.stderr) or process.last_line(ran.stderr))
    environ = {**os.environ, **ENVIRONMENT}
    ran = process.run(["dpkg", "--configure", "--pending", "--force-confold", "--force-confdef"], env=environ, ok=None)
    if ran.returncode:
        reasons.append(_reason(ran.stderr) or process.last_line(ran.stderr))
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def install(names: Sequence[str], supplies: Path | None, lock: Path | None) -> tuple[list[str], str]:
    """Install packages from the box's archives, and what they lack from the supplies.

    names: missing packages. supplies: folder with `debs/Packages`; None or a folder that does not exist: there are
    none. lock: the target's apt.lock. Returns the packages that are still missing, and the reason.
    """
    attempts = [("", _install(names))]
    missing = _missing(names)
    if missing and supplies and lock and (supplies / "debs/Packages").is_file():
        with _locked_part(supplies / "debs", lock.read_text()) as part:
            attempts.append((f"from {supplies}: ", _install(missing, part.options)))
        missing = _missing(names)
    reasons = [place + reasons.get(missing[0], "") for place, reasons in attempts] if missing else []
    return missing, "; ".join(reasons)


def _install(names: Sequence[str], options: Sequence[str] = ()) -> dict[str, str]:
    """Install packages with apt: all together, after an update of the lists if needed; else each alone.

    options: of apt-get. Returns apt's error message by package; empty if all were installed.
    """
    if not options:
        ran = _apt(["install", *names])
        if not ran.returncode:
            return {}
        if UNREADABLE_LISTS.search(ran.stderr):
            _empty(Path("/var/lib/apt/lists"))
    updated = _apt([*options, "update"])
    if not _apt([*options, "install", *names]).returncode:
        return {}
    reasons = {}
    for name in names:
        ran = _apt([*options, "install", name])
        if ran.returncode:
            causes = [_reason(ran.stderr) or process.last_line(ran.stderr), _reason(updated.stderr)]
            reasons[name] = "; ".join(dict.fromkeys(cause for cause in causes if cause))
    return reasons


def _apt(words: Sequence[str]) -> process.Result:
    command = ["apt-get", *OPTIONS, *PATIENCE, "--no-install-recommends", *words]
    return process.run(command, env={**os.environ, **ENVIRONMENT}, ok=None)


def _missing(names: Collection[str]) -> list[str]:
    installed = state().installed
    return [name for name in names if name not in installed]


def _empty(folder: Path) -> None:
    """Empty apt's folder of package lists, which are a cache."""
    for path in folder.glob("*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    (folder / "partial").mkdir(exist_ok=True)


class _Part(NamedTuple):
    """An apt source of those supplies that the lock names."""

    options: list[str]
    """Options of apt-get that make it the only source."""
    versions: dict[str, str]
    """The version of each package."""


@contextmanager
def _locked_part(debs: Path, lock: str) -> Iterator[_Part]:
    """Make an apt source of those supplies whose sha256 is in a lock."""
    locked = set(re.findall(r"\b[0-9a-f]{64}\b", lock))
    stanzas = [part for part in (debs / "Packages").read_text().split("\n\n") if _field(part, "SHA256") in locked]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        repo = folder / "repo"
        repo.mkdir()
        (repo / "Packages").write_text("\n\n".join(stanzas) + "\n")
        for stanza in stanzas:
            file = Path(_field(stanza, "Filename")).name
            (repo / file).symlink_to(debs / file)
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb [trusted=yes] file:{repo} ./\n")
        settings = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::Etc::PreferencesParts": "-",
            "Dir::State::Lists": folder / "lists",
            "APT::Sandbox::User": "root",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        yield _Part(options, {_field(stanza, "Package"): _field(stanza, "Version") for stanza in stanzas})


def _field(stanza: str, name: str) -> str:
    match = re.search(rf"^{name}: *(.*)$", stanza, re.M)
    return match[1].strip() if match else ""


def _reason(stderr: str) -> str:
    """Return the cause in apt's or dpkg's error output, in one line; empty if there is none."""
    causes = ("E: ", "W: Failed to fetch", "W: GPG error", "dpkg: error")
    cause = next((" ".join(line[3:].split()) for line in stderr.splitlines() if line.startswith(causes)), "")
    if cause and WRONG_CLOCK.search(stderr):
        today = datetime.datetime.now(datetime.UTC).date()
        cause += f" (this box's date is {today}: if it is wrong, `{SET_CLOCK}`)"
    return cause
