"""Create, compare, repair and deduplicate Python environments, with uv and a lock with hashes.

An environment is reproducible: all files have one fixed modification time. So byte code with Python's default timestamp
check is reproducible, is still invalidated by an edited source, and needs no hashing on import.
"""

from __future__ import annotations

import base64
import csv
import filecmp
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.python_env import bytecode
from vault_cube.python_env.fingerprint import Fingerprint

# 1980-01-02: the oldest date that a zip archive can store in any time zone; no build has an older SOURCE_DATE_EPOCH
EPOCH = 315619200
STAMP = "vault-cube.json"
# files that `uv venv` creates; all others in an environment are listed in a package's RECORD, or are their byte code
SKELETON = re.compile(
    r"pyvenv\.cfg|CACHEDIR\.TAG|\.gitignore|\.lock|lib64|bin/(python[\d.]*|activate.*|deactivate.*|pydoc\.bat)"
    r"|lib/python[\d.]+/site-packages/_virtualenv\.(py|pth)"
)


class NotInstalled(VaultCubeError):
    """uv could not install the packages, for instance without a network."""


@dataclass(frozen=True)
class Findings:
    """The differences between an environment and its lock; all fields are empty if there is none."""

    reason: str = ""
    """A difference that concerns the environment as a whole."""
    absent: bool = False
    """Whether the environment must be created."""
    interpreter: bool = False
    """Whether only its interpreter must be set again."""
    missing: list[str] = field(default_factory=list)
    """Files of packages that do not exist."""
    altered: list[str] = field(default_factory=list)
    """Files whose content differs from their package's."""
    strays: list[str] = field(default_factory=list)
    """Files that belong to no package."""
    packages: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Installed and locked version of packages for which they differ."""

    def __bool__(self) -> bool:
        return bool(self.reason or self.missing or self.altered or self.strays or self.packages)


def read_lock(lock: Path) -> dict[str, str]:
    """Read a lock: package name → version. Raises VaultCubeError for a missing file or a line without a hash."""
    try:
        lines = lock.read_text().splitlines()
    except OSError as err:
        raise VaultCubeError(f"{lock}: {err.strerror}: run `make lock`, or restore the file") from err
    wanted = {}
    for number, line in enumerate(lines, 1):
        text = line.partition(" #")[0].strip().rstrip("\\").strip()
        if not text or text.startswith(("#", "--hash=")):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)(\s+--hash=sha256:[0-9a-f]{64})*", text)
        if not match:
            raise VaultCubeError(f"{lock}: line {number}: not a pinned requirement: restore the file")
        if "--hash=" not in text and not (number < len(lines) and lines[number].strip().startswith("--hash=")):
            raise VaultCubeError(f"{lock}: line {number}: {match[1]} has no hash: restore the file")
        wanted[_name(match[1])] = match[2]
    return wanted


def compare(folder: Path, lock: Path, python: Path, fingerprint: Fingerprint | None = None) -> Findings:
    """Compare an environment with its stamp and, if they differ, with its packages.

    folder: the environment. lock: its lock. python: the system's interpreter. fingerprint: that of the environment.
    Returns the differences. Nothing is compared if the fingerprint is that of the last comparison; if it is another,
    all files are read. At the first comparison, and without a fingerprint, only names, sizes, modes and times are
    compared with the stamp. This misses an edit that keeps size and time.
    """
    wanted = read_lock(lock)
    real = Path(os.path.realpath(python))
    # its packages fit another interpreter of the same version
    if not (folder / "lib" / real.name / "site-packages").is_dir():
        exists = (folder / "pyvenv.cfg").is_file()
        return Findings(reason=f"it does not run on {python}" if exists else "it does not exist", absent=True)
    if not (folder / "pyvenv.cfg").is_file() or Path(os.path.realpath(folder / "bin" / "python")) != real:
        return Findings(reason=f"its interpreter is not {python}", interpreter=True)
    stamp = _stamp(folder)
    if stamp.get("lock") == _lock_digest(lock):
        if fingerprint and fingerprint.is_unchanged():
            return Findings()
        trusted = fingerprint is None or fingerprint.is_new
        if stamp.get("tree") == tree_digest(folder) and (trusted or _is_intact(folder, stamp)):
            if fingerprint:
                fingerprint.record()
            return Findings()
    files = damage(folder)
    packages = _package_changes(folder, wanted)
    if files or packages:
        return Findings(missing=files.missing, altered=files.altered, strays=files.strays, packages=packages)
    return Findings(reason="times, modes or byte code of its files have changed since it was created")


def tree_digest(folder: Path) -> str:
    """Return a SHA-256 of the names, types, modes, sizes, times and link targets below a folder, without its stamp."""
    digest = hashlib.sha256()
    for path, status in _walk(folder):
        if path == STAMP:
            continue
        target = str((folder / path).readlink()) if stat.S_ISLNK(status.st_mode) else ""
        size, changed = (status.st_size, int(status.st_mtime)) if stat.S_ISREG(status.st_mode) else (0, 0)
        digest.update(f"{path}\0{status.st_mode:o}\0{size}\0{changed}\0{target}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def damage(folder: Path, *, contents: bool = True) -> Findings:
    """Compare the files of an environment with the packages' RECORDs.

    contents: whether to read and compare the contents, too. Returns missing, altered and stray files, relative to the
    folder.
    """
    missing, altered = [], []
    # a file that several packages contain must have the content of the last one: see _to_reinstall
    known = {path: digest for record in _records(folder) for path, digest in _recorded(folder, record)}
    for path, digest in known.items():
        file = folder / path
        if _source_of(path):
            continue  # byte code from a wheel is replaced by our own
        if not file.exists():
            missing.append(path)
        elif contents and digest and _sha256(file) != digest:
            altered.append(path)
    strays = []
    for path, status in _walk(folder):
        if path == STAMP or path in known or SKELETON.fullmatch(path) or stat.S_ISDIR(status.st_mode):
            continue
        source = _source_of(path)
        if source is None or source not in known:
            strays.append(path)
    return Findings(missing=sorted(missing), altered=sorted(altered), strays=sorted(strays))


def make(
    folder: Path,
    lock: Path,
    python: Path,
    *,
    share_with: Sequence[Path],
    indexes: Sequence[Sequence[str]],
    cache: Path | None = None,
    differences: Findings | None = None,
) -> dict[str, int]:
    """Create an environment, or change it until it matches its lock; then compile, deduplicate and stamp it.

    If no file of a package is missing or altered, no index is asked. If uv cannot get a package, no file is removed.

    folder: the environment, at the path where it will be used. lock: a lock with hashes. python: the system's
    interpreter. share_with: environments whose identical files become hard links. indexes: alternative index options of
    uv, tried in this order; ignored in a build, which sets UV_OFFLINE and UV_FIND_LINKS. cache: folder on the same file
    system in which uv keeps unpacked wheels for the next environment; None: they are removed. differences: those that
    `compare` has returned; None: compare now.
    Returns numbers: files, bytes, shared_files, shared_bytes. Raises VaultCubeError; NotInstalled with uv's error
    message if uv failed.
    """
    wanted = read_lock(lock)
    differences = differences or compare(folder, lock, python)
    if differences.absent:
        shutil.rmtree(folder, ignore_errors=True)
    if differences.absent or differences.interpreter:
        _make_skeleton(folder, python, cache)
        differences = replace(damage(folder), absent=differences.absent)
    _restore_modes(folder, _stamp(folder).get("executable"))
    (folder / STAMP).unlink(missing_ok=True)
    broken = _broken(folder, {*differences.missing, *differences.altered})
    # first, because these files can run code in what follows
    _drop(folder, [path for path in differences.strays if path.endswith(".pth")])
    if broken or _package_changes(folder, wanted):
        try:
            _install(folder, lock, indexes, cache, broken)
        except VaultCubeError:
            if differences.absent:
                shutil.rmtree(folder)
            raise
    _drop_install_times(folder)
    _drop(folder, damage(folder, contents=False).strays)  # also files of removed packages or of an earlier Python
    _drop_byte_code(folder)
    _fix(folder)
    shared = _share(folder, share_with)
    _compile(folder)
    _fix(folder)
    _check_installed(folder, lock, wanted, repaired=not differences.absent)
    files = {path: status for path, status in _walk(folder) if stat.S_ISREG(status.st_mode)}
    _write_stamp(folder, lock, [path for path, status in files.items() if status.st_mode & 0o100])
    return {"files": len(files), "bytes": sum(status.st_size for status in files.values()), **shared}


def _make_skeleton(folder: Path, python: Path, cache: Path | None) -> None:
    """Create an environment without packages, or set its interpreter and settings again. Arguments: as for `make`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder / "bin").glob("python*"):
        path.unlink()
    venv = ["venv", "--quiet", "--no-project", "--no-config", "--allow-existing", "--python", str(python), str(folder)]
    _uv(venv, folder, cache)


def _install(
    folder: Path, lock: Path, indexes: Sequence[Sequence[str]], cache: Path | None, broken: Sequence[str]
) -> None:
    """Install exactly the packages of a lock with uv. broken: packages to install again; others as for `make`."""
    sync = ["pip", "sync", "--quiet", "--no-config", "--require-hashes", "--allow-empty-requirements"]
    sync += ["--no-compile-bytecode", "--link-mode", "hardlink", "--index-strategy", "unsafe-best-match"]
    sync += ["--python", str(folder / "bin" / "python"), str(lock)]
    again = [part for package in broken for part in ("--reinstall-package", package)]
    places: Sequence[Sequence[str]] = [[]] if os.environ.get("UV_OFFLINE") or not indexes else indexes
    # uv removes a package only when it has all that it will install
    _uv([*sync, *again], folder, cache, places)
    for package in _to_reinstall(folder):
        _uv([*sync, "--reinstall-package", package], folder, cache, places)


def _check_installed(folder: Path, lock: Path, wanted: Mapping[str, str], *, repaired: bool) -> None:
    """Compare an environment with its lock. Raises VaultCubeError if a version differs.

    repaired: the environment existed before; then all its files are compared, too.
    """
    mismatches = _package_changes(folder, wanted)
    if mismatches:
        names = ", ".join(sorted(mismatches))
        raise VaultCubeError(f"{folder}: uv did not install the versions of {lock} for {names}: run it again")
    if repaired:
        remaining = damage(folder)
        if remaining.missing or remaining.altered:
            first = (remaining.missing + remaining.altered)[0]
            raise VaultCubeError(f"{folder}: {first} differs from its package even after a repair: check its wheel")


def _write_stamp(folder: Path, lock: Path, executable: Sequence[str]) -> None:
    """Record that an environment matches its lock. executable: paths of its executable files."""
    stamp = {
        "lock": _lock_digest(lock),
        "tree": tree_digest(folder),
        "unlisted": _unlisted_digest(folder),
        "executable": executable,
    }
    (folder / STAMP).write_text(json.dumps(stamp, sort_keys=True) + "\n")
    for path in (folder / STAMP, folder):
        os.utime(path, (EPOCH, EPOCH))


def _uv(
    arguments: Sequence[str], folder: Path, shared_cache: Path | None, attempts: Sequence[Sequence[str]] = ((),)
) -> None:
    """Run uv with a cache on the environment's file system, so that uv can make hard links.

    shared_cache: the cache to use; None: a temporary one. attempts: alternative options, tried until uv succeeds.
    """
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if not uv:
        raise VaultCubeError(f"{folder}: uv is neither beside {sys.executable} nor on PATH: install it")
    cache = shared_cache or folder.parent / f".{folder.name}.uv"
    environ = {**os.environ, "UV_CACHE_DIR": str(cache)}
    try:
        for options in attempts:
            ran = process.run([uv, *arguments, *options], env=environ, ok=None)
            if ran.returncode == 0:
                return
    finally:
        if not shared_cache:
            shutil.rmtree(cache, ignore_errors=True)
    reason = " ".join(ran.stderr.split()).removeprefix("error: ")
    raise NotInstalled(f"{folder}: uv {arguments[0]}: {reason[:500] or f'exit code {ran.returncode}'}")


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """List everything below a folder in a fixed order: (path relative to the folder, lstat)."""
    pending = [(str(folder), "")]
    while pending:
        place, prefix = pending.pop()
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{prefix}{entry.name}"
                yield path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{path}/"))


def _site(folder: Path) -> Path:
    sites = sorted(folder.glob("lib/python3.*/site-packages"))
    if not sites:
        raise VaultCubeError(f"{folder}: no site-packages folder in it: remove {folder} and apply the states again")
    return sites[0]


def _records(folder: Path) -> list[Path]:
    return sorted(_site(folder).glob("*.dist-info/RECORD"))


def _recorded(folder: Path, record: Path) -> Iterator[tuple[str, str]]:
    """List a RECORD's files: (path relative to the environment, SHA-256 or "")."""
    site = _site(folder).relative_to(folder)
    with record.open(newline="", encoding="utf-8") as handle:
        for row in csv.reader(handle):
            if not row:
                continue
            path = os.path.normpath(row[0] if row[0].startswith("/") else site / row[0])
            yield os.path.relpath(path, folder) if path.startswith("/") else path, row[1].removeprefix("sha256=")


def _to_reinstall(folder: Path) -> list[str]:
    """List the packages to install again, in this order, because other packages contain the same files.

    uv installs packages in parallel, so a file of two packages gets the content of either. Installing the last one by
    name again decides which. When uv removes a package, it also removes the files that others share with it.
    """
    seen: dict[str, str] = {}
    packages = []
    for record in _records(folder):
        recorded = {path: digest for path, digest in _recorded(folder, record) if digest and not _source_of(path)}
        if any(seen.get(path, digest) != digest or not (folder / path).exists() for path, digest in recorded.items()):
            packages.append(_package(record))
        seen |= recorded
    return packages


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _source_of(path: str) -> str | None:
    """Return the source of a byte code file: `a/__pycache__/b.cpython-311.pyc` → `a/b.py`. None for other files."""
    match = re.fullmatch(r"(.*/)__pycache__/(.+)\.cpython-\d+\.pyc", path)
    return f"{match[1]}{match[2]}.py" if match else None


def _is_intact(folder: Path, stamp: Mapping[str, Any]) -> bool:
    """Read all files of an environment, and return whether they are those of its packages and of its stamp."""
    return not damage(folder) and stamp.get("unlisted") == _unlisted_digest(folder)


def _unlisted_digest(folder: Path) -> str:
    """Return a SHA-256 of the files for which no RECORD has a digest: byte code, scripts of `uv venv`, the RECORDs."""
    listed = {
        path
        for record in _records(folder)
        for path, recorded in _recorded(folder, record)
        if recorded and not _source_of(path)
    }
    digest = hashlib.sha256()
    for path, status in _walk(folder):
        if stat.S_ISREG(status.st_mode) and path != STAMP and path not in listed:
            digest.update(f"{path}\0{_sha256(folder / path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _broken(folder: Path, files: set[str]) -> list[str]:
    """Return the packages that have one of these files and that uv can install again.

    The others have damaged records: they are removed directly, and uv then installs them as missing ones.
    """
    packages = []
    for record in _records(folder):
        paths = [path for path, _ in _recorded(folder, record)]
        damaged = files.intersection(paths)
        if any(Path(path).parent.name == record.parent.name for path in damaged):
            _drop(folder, paths)
            shutil.rmtree(record.parent, ignore_errors=True)
        elif damaged:
            packages.append(_package(record))
    for place in _site(folder).glob("*.dist-info"):
        if not (place / "RECORD").is_file():
            shutil.rmtree(place)
    return packages


def _package(record: Path) -> str:
    """Return the name of the package of a RECORD."""
    return _name(record.parent.name.removesuffix(".dist-info").rpartition("-")[0])


def _drop(folder: Path, paths: Sequence[str]) -> None:
    """Remove files, and folders that become empty."""
    for path in paths:
        file = folder / path
        file.unlink(missing_ok=True)
        for above in file.parents:
            if above == folder or not above.is_dir() or any(above.iterdir()):
                break
            above.rmdir()


def _drop_install_times(folder: Path) -> None:
    """Remove uv's records of installation times, which differ between machines and are not needed."""
    for note in _site(folder).glob("*.dist-info/uv_cache.json"):
        record = note.parent / "RECORD"
        lines = record.read_text().splitlines(keepends=True)
        record.unlink()  # the file may be a hard link into uv's cache
        record.write_text("".join(line for line in lines if not line.startswith(f"{note.parent.name}/uv_cache.json,")))
        note.unlink()


def _stamp(folder: Path) -> dict[str, Any]:
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _drop_byte_code(folder: Path) -> None:
    for place, below, _ in os.walk(_site(folder)):
        if "__pycache__" in below:
            below.remove("__pycache__")
            shutil.rmtree(os.path.join(place, "__pycache__"))  # noqa: PTH118 thousands of these


def _restore_modes(folder: Path, executable: Sequence[str] | None) -> None:
    """Restore the mode of every file of an existing environment. executable: executable files, from its stamp."""
    if executable is None:
        return
    known = set(executable)
    for path, status in _walk(folder):
        if stat.S_ISREG(status.st_mode):
            (folder / path).chmod(0o755 if path in known else 0o644)


def _fix(folder: Path) -> None:
    """Set the fixed modification time, and mode 0755 or 0644, everywhere in an environment."""
    for path, status in _walk(folder):
        full = f"{folder}/{path}"
        if not stat.S_ISLNK(status.st_mode):
            wanted = 0o755 if stat.S_ISDIR(status.st_mode) or status.st_mode & 0o100 else 0o644
            if stat.S_IMODE(status.st_mode) != wanted:
                os.chmod(full, wanted)  # noqa: PTH101 fifty thousand of these
        if status.st_mtime_ns != EPOCH * 10**9:
            os.utime(full, (EPOCH, EPOCH), follow_symlinks=False)


def _compile(folder: Path) -> None:
    """Compile the sources that have no byte code yet, with relative paths in it, so that environments can share it."""
    # sources that no Python 3 can compile (templates, old tests) are skipped
    program: list[str | Path] = [folder / "bin" / "python", *bytecode.FLAGS, Path(bytecode.__file__)]
    process.run([*program, "TIMESTAMP", str(folder), _site(folder)], env=bytecode.ENVIRONMENT, ok=None)


def _share(folder: Path, others: Sequence[Path]) -> dict[str, int]:
    """Replace files by hard links to identical ones (name, size, mode, content) in other environments.

    Byte code of these files is linked, too. Only environments that still match their stamps are used, so that a
    manipulated file does not spread. Returns the number of shared files and their bytes.
    """
    shared = {"shared_files": 0, "shared_bytes": 0}
    base = _site(folder)
    whole = [other for other in others if other != folder and other.is_dir() and _is_whole(other)]
    sites = [_site(other) for other in whole]
    for path, status in list(_walk(base)):
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            continue
        lender = next((site for site in sites if _same(f"{base}/{path}", status, f"{site}/{path}")), None)
        if lender is None:
            continue
        for name in (path, *_byte_code(lender, path)):
            shared["shared_files"] += 1
            shared["shared_bytes"] += _link(lender / name, base / name)
    return shared


def _is_whole(folder: Path) -> bool:
    tree = _stamp(folder).get("tree")
    return bool(tree) and tree == tree_digest(folder)


def _same(mine: str, status: os.stat_result, theirs: str) -> bool:
    try:
        other = os.lstat(theirs)
    except OSError:
        return False
    if (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino):
        return True
    alike = (other.st_mode, other.st_size, other.st_dev) == (status.st_mode, status.st_size, status.st_dev)
    return alike and filecmp.cmp(mine, theirs, shallow=False)


def _byte_code(site: Path, path: str) -> list[str]:
    """Return the path of a source's byte code, if there is any."""
    above, slash, name = path.rpartition("/")
    tag = site.parent.name.replace("python", "cpython-").replace(".", "")
    code = f"{above}{slash}__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
    return [code] if name.endswith(".py") and (site / code).is_file() else []


def _link(theirs: Path, mine: Path) -> int:
    """Make a file a hard link to another environment's file. Returns its size in bytes."""
    size = theirs.stat().st_size
    if mine.exists() and mine.samefile(theirs):  # both are links into the same cache
        return size
    mine.parent.mkdir(exist_ok=True)
    spare = mine.with_name(f".{mine.name}.link")
    os.link(theirs, spare)
    spare.replace(mine)
    return size


def _package_changes(folder: Path, wanted: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Return the packages whose version differs from the lock: name → (installed, locked)."""
    installed = {}
    for record in _records(folder):
        name, _, version = record.parent.name.removesuffix(".dist-info").rpartition("-")
        installed[_name(name)] = version
    names = sorted({*installed, *wanted})
    return {
        name: (installed.get(name), wanted.get(name))
        for name in names
        if _version(installed.get(name)) != _version(wanted.get(name))
    }


def _lock_digest(lock: Path) -> str:
    """Return a SHA-256 of a lock's packages and hashes; comments and the order of lines do not count."""
    lines = [line.partition(" #")[0].split() for line in lock.read_text().replace("\\\n", " ").splitlines()]
    packages = sorted(" ".join(words) for words in lines if words and not words[0].startswith("#"))
    return hashlib.sha256("\n".join(packages).encode()).hexdigest()


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(version: str | None) -> str | None:
    return version.replace("_", "-") if version else version
