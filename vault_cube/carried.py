"""The files of a checkout that a box carries, so that it can apply its states, check itself and run benchmarks.

`python3 -m vault_cube.carried ARCHIVE TARGET` packs them for machines that Packer provisions.
"""

from __future__ import annotations

import re
import sys
import tarfile
from pathlib import Path

from vault_cube.errors import VaultCubeError

# folder of custom modules -> Salt's name for their type, as in the option `<type>_dirs`
LOADER_DIRS = {
    "_modules": "modules",
    "_states": "states",
    "_grains": "grains",
    "_pillar": "pillar",
    "_beacons": "beacons",
    "_executors": "executors",
    "_runners": "runners",
}
FOLDERS = ("conf", "salt", "pillar", "vault_cube", "workloads", "docs/runbooks", *LOADER_DIRS)
FILES = ("Saltfile", "pyproject.toml")
DROPPINGS = re.compile(r"\..+|#.*#|.*(~|\.pyc|\.swp|\.orig|\.rej)|__pycache__|Thumbs\.db|desktop\.ini")
"""Names of hidden files, byte code, and what editors, patch, macOS, Windows and NFS leave in folders."""


def carried(checkout: Path, target: str, locks: Path | None = None) -> dict[str, Path]:
    """List the files that a box of a target carries: path below the checkout -> file.

    The pillar files and locks of other targets are left out. pillar/local.sls is included: without it a box would
    report drift from its own image.

    locks: the folder of the target's locks, if it is not the checkout's.
    """
    locks = locks or checkout / "locks" / target
    files = [file for folder in FOLDERS for file in sources(checkout / folder)]
    files += [checkout / name for name in FILES if (checkout / name).is_file()]
    other_targets = set((checkout / "pillar/targets").glob("*.sls")) - set(target_files(checkout, target))
    places = {str(file.relative_to(checkout)): file for file in files if file not in other_targets}
    places |= {f"locks/{target}/{lock.name}": lock for lock in (*locks.glob("python-*.lock"), *locks.glob("apt.lock"))}
    return dict(sorted(places.items()))


def target_files(checkout: Path, target: str) -> list[Path]:
    """List the pillar files of a target: its own, and those that it includes."""
    folder = checkout / "pillar/targets"
    own = folder / f"{target}.sls"
    lines = own.read_text().splitlines() if own.is_file() else []
    included = [line.strip().removeprefix("- targets.") for line in lines if line.strip().startswith("- targets.")]
    return [own, *(folder / f"{name}.sls" for name in included)]


def sources(folder: Path) -> list[Path]:
    """List the files below a folder, without byte code and what editors and file managers leave there.

    Raises VaultCubeError for a link that leads nowhere or to a folder: its files would be left out.
    """
    files = []
    for file in folder.rglob("*"):
        if any(DROPPINGS.fullmatch(part) for part in file.relative_to(folder).parts):
            continue
        if file.is_file():
            files.append(file)
        elif file.is_symlink():
            raise VaultCubeError(f"{file}: a link to {file.readlink()}, which is no file: put the files there instead")
    return files


def mode(file: Path) -> int:
    """Return the permissions that a file has on a box.

    The file's own are not used: on vfat, CIFS and others all files are executable.
    """
    return 0o600 if file.name == "local.sls" else 0o644  # local.sls may contain secrets


def pack(archive: Path, checkout: Path, target: str) -> None:
    """Write the files that a box of a target carries into a tar.gz archive."""
    with tarfile.open(archive, "w:gz") as tar:
        for place, file in carried(checkout, target).items():
            entry = tar.gettarinfo(file, place)
            entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = mode(file), 0, 0, "root", "root"
            with file.open("rb") as content:
                tar.addfile(entry, content)


if __name__ == "__main__":
    top, (where, wanted) = Path(__file__).parents[1], sys.argv[1:]
    if not (top / "pillar/targets" / f"{wanted}.sls").is_file():
        sys.exit(f"{wanted}: no such target in pillar/targets/")
    pack(Path(where), top, wanted)
