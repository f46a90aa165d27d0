"""A copy of this checkout that builds `ubuntu-24.04` from the stand-in archive."""

import os
import shutil
import subprocess
from pathlib import Path

import noble_archive
import yaml
from copied import SOURCES, TOP

TARGET = "ubuntu-24.04"
KEPT = ("checkout.lock", "tools.lock", "keyrings", f"{TARGET}/contract.json")
"""what the copy has of locks/; the target's locks are resolved again"""


def make(checkout: Path, root: Path, url: str, archive: str = "ubuntu") -> Path:
    """Copy the checkout and point it at the archive. root: the archive's folder. url: where that is served.

    The environments of the machine-learning frameworks are left out: the stand-in has another Python than noble.
    """
    checkout.mkdir(parents=True)
    names = [*SOURCES, "scripts", "packer"]
    subprocess.run(["cp", "-a", *(TOP / name for name in names), checkout], check=True)
    shutil.rmtree(checkout / "locks")
    (checkout / f"locks/{TARGET}").mkdir(parents=True)
    for name in KEPT:
        subprocess.run(["cp", "-a", TOP / "locks" / name, (checkout / "locks" / name).parent], check=True)
    shutil.copy(root / "ubuntu-archive-keyring.asc", checkout / "locks/keyrings")
    (checkout / ".venv").symlink_to(TOP / ".venv")
    (checkout / ".salt").mkdir()
    (checkout / "pillar/local.sls").write_text(yaml.safe_dump(noble_archive.local_pillar(root, url, archive)))
    without_frameworks(checkout / f"pillar/targets/{TARGET}.sls")
    return checkout


def without_frameworks(file: Path) -> None:
    """Drop the frameworks' environments from a target; a local pillar can add to a mapping, not empty it."""
    pillar = yaml.safe_load(file.read_text())
    frameworks = pillar["frameworks"]
    dropped = {"pytorch", "tensorflow", "vllm"}
    for name in dropped:
        frameworks["environments"].pop(name)
    frameworks["commands"] = {key: words for key, words in frameworks["commands"].items() if words[0] not in dropped}
    frameworks["checks"] = {}
    frameworks["vllm"] = {"environment": None}
    file.write_text(yaml.safe_dump(pillar, sort_keys=False))


def store(folder: Path) -> Path:
    """A store that holds nothing but the files of the tools tree's lock, as links into this machine's store."""
    folder.mkdir(parents=True)
    from vault_cube.image.locks.aptlock import AptLock
    from vault_cube.image.store import Store

    mine, own = Store(noble_archive.store_folder()), Store(folder)
    for deb in AptLock.read(TOP / "locks/tools.lock").debs:
        if mine.has(deb.sha256):
            own.path(deb.sha256).parent.mkdir(exist_ok=True)
            os.link(mine.path(deb.sha256), own.path(deb.sha256))
    return folder


def environment(checkout: Path, cache: Path) -> dict[str, str]:
    """The variables under which `make` works in the copy."""
    own = {"PYTHONPATH": str(checkout), "VAULT_CUBE_CACHE": str(cache), "TARGET": TARGET}
    return {**{key: value for key, value in os.environ.items() if key != "VAULT_CUBE_STORE"}, **own}
