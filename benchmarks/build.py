"""Measure a build: seconds per stage, and the ratio of the total to a lower bound.

Run as root with the checkout's Python:

    .venv/bin/python benchmarks/build.py [--target debian-12]

Both sides start with a filled store and a finished tools tree, and end with a qcow2 and a raw.zst:

* ours: `salt-call image.layer validation` and `image.disk`, with an empty layer cache;
* the lower bound (`floor`): the same packages and wheels, written to disk by plain commands only: one mmdebstrap with
  all packages, uv for each environment (with byte code), mke2fs, qemu-img, zstd. It has no layers, states, seal, hashes
  or checks of the installed packages; its image is not configured, and not reproducible.

Then layer 5 is changed three times, by one more line in a runbook that the box carries, and the same two stages run
again.

Downloads, the tools tree and the boot test are not part of either side. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))
from vault_cube.image.layers import chroot, repository, root, tools  # noqa: E402
from vault_cube.image.locks import pylock  # noqa: E402
from vault_cube.image.locks.aptlock import AptLock  # noqa: E402
from vault_cube.image.store import Store  # noqa: E402
from vault_cube.image.workspace import default_cache  # noqa: E402

MIB = 1 << 20
STORE = Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store")


# without -W: with it, qemu-img writes clusters in the order in which they are ready, so each image would differ
PACK = {
    "qcow2": [
        *("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"),
        *("/run/out/disk.raw", "/run/out/disk.qcow2"),
    ],
    "raw.zst": ["zstd", "-q", "-f", "-T0", "-3", "--no-progress", "/run/out/disk.raw", "-o", "/run/out/disk.raw.zst"],
}


def timed(seconds: dict[str, float], name: str, work: Callable[[], object]) -> None:
    """Do the work, and add its duration to `seconds` under its name."""
    print(f"  {name} …", file=sys.stderr)
    started = time.monotonic()
    work()
    seconds[name] = round(time.monotonic() - started, 2)


CHANGES = 3
"""Number of rebuilds after a change in layer 5."""


def ours(target: str, folder: Path) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Build in a copy of this checkout with its own cache.

    Returns seconds by stage of the build, and the same for each change after it.
    """
    checkout = folder / "checkout"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=True).stdout.decode()
    for name in names.split("\0")[:-1]:
        if (TOP / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, checkout / name)
    (checkout / ".salt").mkdir()
    places = {"PYTHONPATH": str(checkout), "VAULT_CUBE_CACHE": str(folder / "cache"), "VAULT_CUBE_STORE": str(STORE)}

    def stage(*words: str) -> None:
        call = [TOP / ".venv/bin/salt-call", "--out-file=/dev/null", *words, f"target={target}"]
        subprocess.run(call, cwd=checkout, env={**os.environ, **places}, check=True)

    stage("image.fetch")
    stage("image.tools")
    times = checkout / "build" / target / "times.json"

    def image() -> dict[str, float]:
        times.unlink(missing_ok=True)
        seconds: dict[str, float] = {}
        timed(seconds, "layers", lambda: stage("image.layer", "validation"))
        timed(seconds, "disk and formats", lambda: stage("image.disk"))
        return {**json.loads(times.read_text()), "whole": round(sum(seconds.values()), 2)}

    whole, changes = image(), []
    for number in range(CHANGES):
        with (checkout / "docs/runbooks/BoxDown.md").open("a") as runbook:
            runbook.write(f"\nA change: {number}.\n")
        changes.append(image())
    return whole, changes


def floor(target: str, folder: Path, codename: str) -> dict[str, float]:
    """Build the same packages, wheels and formats with plain commands; return seconds by step."""
    locks = TOP / "locks" / target
    lock, log, store = AptLock.read(locks / "apt.lock"), folder / "log", Store(STORE)
    tree = next(
        entry / "tree"
        for entry in (folder / "cache/layers").iterdir()
        if json.loads((entry / "meta.json").read_text())["name"] == tools.LAYER
    )
    work = folder / "floor"
    work.mkdir()

    def plain(command: list[str], inside: Path = tree, **more: object) -> None:
        binds = [chroot.Bind(work, "/run/out", writable=True), chroot.Bind(TOP / ".venv/bin/uv", "/run/uv")]
        variables = {"SOURCE_DATE_EPOCH": str(lock.epoch), **more.get("environment", {})}
        chroot.run(inside, command, what=command[0], log=log, binds=binds, environment=variables)

    def packages() -> None:
        repository.make(store, lock.debs, work / "repo", codename)
        names = [deb.name for deb in lock.debs]
        plain(tools.mmdebstrap(names, codename, "/run/out/tree", "/run/out/repo"), environment={"TMPDIR": "/tmp"})  # noqa: S108

    def environment(file: Path) -> None:
        name = file.stem.removeprefix("python-")
        wheels = pylock.read(file)
        store.link([(wheel.sha256, wheel.file) for wheel in wheels], work / f"wheels-{name}")
        (work / f"{name}.txt").write_text(pylock.text(wheels))
        place = f"/opt/{name}"
        variables = root.python_environment(lock.epoch) | {
            "UV_FIND_LINKS": f"/run/out/wheels-{name}",
            "UV_COMPILE_BYTECODE": "1",
            "UV_CACHE_DIR": "/opt/uv-cache",
            "UV_LINK_MODE": "hardlink",
        }
        plain(
            ["/run/uv", "venv", "--no-project", "--python", "/usr/bin/python3", place],
            work / "tree",
            environment=variables,
        )
        install = ["/run/uv", "pip", "install", "--python", f"{place}/bin/python", "--require-hashes", "--no-deps"]
        ready = [wheel for wheel in wheels if wheel.file.endswith(".whl")]
        if len(ready) < len(wheels):  # source archives are built last, with the locked build tools
            (work / "ready.txt").write_text(pylock.text(ready))
            plain([*install, "-r", "/run/out/ready.txt"], work / "tree", environment=variables)
            install.append("--no-build-isolation")
        plain([*install, "-r", f"/run/out/{name}.txt"], work / "tree", environment=variables)

    def environments() -> None:
        for file in sorted(locks.glob("python-*.lock")):
            environment(file)
        shutil.rmtree(work / "tree/opt/uv-cache", ignore_errors=True)

    def file_system() -> None:
        used = int(
            subprocess.run(["du", "-sm", work / "tree"], capture_output=True, text=True, check=True).stdout.split()[0]
        )
        size = int(used * 1.05) + 600
        with (work / "disk.raw").open("wb") as out:
            out.truncate(size * MIB)
        plain(["mke2fs", "-q", "-F", "-t", "ext4", "-d", "/run/out/tree", "/run/out/disk.raw"])

    seconds: dict[str, float] = {}
    timed(seconds, "mmdebstrap", packages)
    timed(seconds, "uv", environments)
    timed(seconds, "mke2fs", file_system)
    for file_format, command in PACK.items():
        timed(seconds, file_format, lambda command=command: plain(command))
    return {**seconds, "whole": round(sum(seconds.values()), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="debian-12")
    parser.add_argument("--codename", default="bookworm")
    options = parser.parse_args()
    before = os.getloadavg()
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=cache) as folder:
        measured, changes = ours(options.target, Path(folder))
        plain = floor(options.target, Path(folder), options.codename)
    print(
        json.dumps(
            {
                "target": options.target,
                "unit": "seconds",
                "ours": measured,
                "floor": plain,
                "ratio": round(measured["whole"] / plain["whole"], 3),
                "a change in layer 5": changes,
                "its share of the whole": round(
                    statistics.median(change["whole"] for change in changes) / measured["whole"], 3
                ),
                "processors": os.cpu_count(),
                "load_average": {"before": before, "after": os.getloadavg()},
                "date": time.strftime("%Y-%m-%d"),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
