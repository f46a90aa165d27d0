"""Build the packages of the base layer with mkosi, with Vault Cube and with mmdebstrap alone, in turn and offline.

Run as root on Debian or Ubuntu, from the checkout, after `make image`, which fills the store:

    sudo .venv/bin/python benchmarks/versus/mkosi_base.py --results benchmarks/results

All three start with the same store and end with a folder:

* mkosi: `Format=directory` with the packages of the root tree and of the base layer;
* mmdebstrap: the same packages by one command, the lower bound;
* Vault Cube: `image.layer base` with an empty layer cache: the same packages, Salt in its own Python environment, all
  states of the base layer, the comparison of the installed packages with the lock, seal and manifests.

Downloads and tools trees are not part of the times.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mkosi_build as whole

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import keys
from vault_cube.image.layers import tools
from vault_cube.image.locks import aptlock
from vault_cube.image.store import Store
from vault_cube.image.workspace import default_cache

CONFIG = """\
[Distribution]
Distribution=debian
Architecture=x86-64
Release={release}
LocalMirror=file://{work}/repo

[Output]
Format=directory
Output=image
Seed={seed}

[Content]
Bootable=no
WithRecommends=no
SourceDateEpoch={epoch}
Packages={packages}

[Build]
Incremental=no
"""
STORE = Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="debian-12", help="target whose lock is built (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="number of builds with each tool (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="folder for the result (default: print it)")
    options = parser.parse_args()
    try:
        result = versus(options.target, options.rounds)
    except (VaultCubeError, OSError, subprocess.CalledProcessError) as err:
        print(f"mkosi_base: {err}", file=sys.stderr)
        return 1
    text = json.dumps(result, indent=1) + "\n"
    if options.results:
        file = options.results / f"{result['date'][:10]}-mkosi-base-{options.target}.json"
        file.write_text(text)
        print(file)
    else:
        print(text, end="")
    return 0


def versus(target: str, rounds: int) -> dict[str, Any]:
    """Build in turn. Returns the result: seconds of each build, and the ratios to Vault Cube's in the same round."""
    if os.geteuid():
        raise VaultCubeError("making trees requires root; run it with sudo")
    lock = aptlock.AptLock.read(whole.CHECKOUT / "locks" / target / "apt.lock")
    debs = [*lock.of(keys.ROOT), *lock.of("base")]
    result: dict[str, Any] = {
        "benchmark": "mkosi-base",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "target": target,
        "packages": len(debs),
        "machine": whole.machine(),
        "simulated": False,
    }
    with whole.folder() as work:
        tree = whole.mkosi_tree(work / "tree", work / "tree.log")
        result["mkosi"] = whole.version_in(tree)
        release = whole.release_of(lock)
        whole.mirror(Store(STORE), debs, work / "repo", release)
        (work / "project").mkdir()
        names = [deb.name for deb in debs]
        (work / "project/mkosi.conf").write_text(
            CONFIG.format(
                release=release,
                work=whole.WORK,
                seed=whole.SEED,
                epoch=lock.epoch,
                packages="\n".join(["", *(f"  {name}" for name in sorted(names))]),
            )
        )
        checkout = ours_in(work, target)
        builds: dict[str, Callable[[], None]] = {
            "mkosi": lambda: theirs(tree, work),
            "vault-cube": lambda: ours(checkout, work, target),
            "mmdebstrap": lambda: plain(tree, work, names, release, lock.epoch),
        }
        samples = [
            {"round": number, "tool": name, **measured(build)}
            for number in range(rounds)
            for name, build in builds.items()
        ]
    result["samples"] = samples
    result["load_1m_after"] = os.getloadavg()[0]
    result["times"] = {name: times(samples, name) for name in builds}
    return result


def measured(build: Callable[[], None]) -> dict[str, float]:
    """Run a build. Returns seconds of wall and of processor time."""
    began, cpu = time.monotonic(), whole.processor()
    build()
    return {"wall": round(time.monotonic() - began, 2), "cpu": round(whole.processor() - cpu, 2)}


def times(samples: list[dict[str, Any]], tool: str) -> dict[str, Any]:
    """Return the medians of a tool, and the ratios to Vault Cube's time in the same round."""
    out: dict[str, Any] = {}
    for unit in ("wall", "cpu"):
        mine = [sample[unit] for sample in samples if sample["tool"] == tool]
        base = [sample[unit] for sample in samples if sample["tool"] == "vault-cube"]
        ratios = [round(seconds / other, 3) for seconds, other in zip(mine, base, strict=True)]
        out[unit] = {"median": statistics.median(mine), "samples": mine, "low": min(mine), "high": max(mine)}
        out[unit]["ratio"] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return out


def theirs(tree: Path, work: Path) -> None:
    """Build with mkosi, without a cache or output of an earlier build."""
    out = work / "mkosi"
    for name in ("", "workspace", "cache"):
        (out / name).mkdir()
    command = ["mkosi", "--directory", f"{whole.WORK}/project", "--output-directory", f"{whole.WORK}/mkosi",
               "--workspace-directory", f"{whole.WORK}/mkosi/workspace",
               "--package-cache-directory", f"{whole.WORK}/mkosi/cache", "build"]  # fmt: skip
    whole.in_tree(tree, work, command, work / "mkosi.log")
    shutil.rmtree(out)


def plain(tree: Path, work: Path, names: list[str], release: str, epoch: int) -> None:
    """Build with one mmdebstrap, that of the tree with mkosi."""
    flat = work / "repo/dists" / release / "main/binary-amd64"
    command = tools.mmdebstrap(names, release, f"{whole.WORK}/plain", f"{whole.WORK}/flat")
    if not (work / "flat").exists():
        shutil.copytree(work / "repo", work / "flat", copy_function=os.link, ignore=shutil.ignore_patterns("dists"))
        shutil.copy(flat / "Packages", work / "flat")
        text = (flat.parents[1] / "Release").read_text()
        (work / "flat/Release").write_text(text.replace(" main/binary-amd64/Packages\n", " Packages\n"))
    # mmdebstrap copies the .debs into its folder for temporary files
    whole.chroot.run(
        tree, command, what="mmdebstrap", log=work / "plain.log",
        binds=[whole.chroot.Bind(work, whole.WORK, writable=True)],
        environment={"SOURCE_DATE_EPOCH": str(epoch), "TMPDIR": "/tmp"},  # noqa: S108
    )  # fmt: skip
    shutil.rmtree(work / "plain")


def ours_in(work: Path, target: str) -> Path:
    """Copy this checkout, and make its tools tree. Returns the copy."""
    checkout = work / "checkout"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=whole.CHECKOUT, capture_output=True, check=True)
    for name in names.stdout.decode().split("\0")[:-1]:
        if (whole.CHECKOUT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(whole.CHECKOUT / name, checkout / name)
    for stage in ("image.fetch", "image.tools"):
        salt_call(checkout, work, target, stage)
    return checkout


def ours(checkout: Path, work: Path, target: str) -> None:
    """Build the root tree and the base layer with an empty layer cache."""
    salt_call(checkout, work, target, "image.layer", "base")
    for entry in (work / "cache/layers").iterdir():
        if json.loads((entry / "meta.json").read_text())["name"] != tools.LAYER:
            shutil.rmtree(entry)


def salt_call(checkout: Path, work: Path, target: str, *words: str) -> None:
    """Run a stage in a copy of the checkout with a cache of its own and the common store."""
    places = {"PYTHONPATH": str(checkout), "VAULT_CUBE_CACHE": str(work / "cache"), "VAULT_CUBE_STORE": str(STORE)}
    command = [sys.executable, "-P", "-m", "vault_cube.salt_call", "--out-file=/dev/null", *words, f"target={target}"]
    subprocess.run(command, cwd=checkout, env={**os.environ, **places}, check=True)


if __name__ == "__main__":
    sys.exit(main())
