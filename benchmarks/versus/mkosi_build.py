"""A target's packages and wheels built into a bootable disk by mkosi, twice, offline: time, size, and do they match?

Run as root on Debian or Ubuntu, from the checkout, after `make image`, whose store it takes the files from:

    sudo .venv/bin/python benchmarks/versus/mkosi_build.py --results benchmarks/results

mkosi comes from Debian 13 (25.3), in a tree of its own made by mmdebstrap from the mirror that this machine's apt uses
(Debian 12's is 14-2, two years older). The only part that needs the network is making that tree. All else runs in
namespaces without a way out, and everything is removed at the end.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image.layers import chroot, repository
from vault_cube.image.locks import aptlock, mirrors, pylock
from vault_cube.image.store import Store, sha256_of
from vault_cube.image.workspace import default_cache, sweep

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = Path(__file__).resolve().parent / "mkosi"
SUITE = "trixie"
TOOLS = (
    "mkosi", "systemd-repart", "systemd-ukify", "systemd-boot-efi", "e2fsprogs", "dosfstools", "mtools", "kmod", "cpio",
    "zstd", "qemu-utils", "debian-archive-keyring", "ca-certificates",
)  # fmt: skip
SEED = "6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a01"
WORK = "/run/work"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="debian-12", help="whose lock is built (default: %(default)s)")
    parser.add_argument("--profile", action="append", default=[], help="one that you added to mkosi/mkosi.profiles")
    parser.add_argument("--tree", type=Path, help="keep the tree with mkosi here, or take the one that is there")
    parser.add_argument("--results", type=Path, help="folder for the result (default: print it)")
    options = parser.parse_args()
    try:
        result = versus(options.target, options.profile, options.tree)
    except (VaultCubeError, OSError) as err:
        print(f"mkosi_build: {err}", file=sys.stderr)
        return 1
    text = json.dumps(result, indent=1) + "\n"
    if options.results:
        name = "-".join([result["date"][:10], "mkosi", options.target, *options.profile])
        (options.results / f"{name}.json").write_text(text)
        print(options.results / f"{name}.json")
    else:
        print(text, end="")
    return 0


def versus(target: str, profiles: Sequence[str], kept: Path | None) -> dict[str, Any]:
    """Build twice and compare. Returns the result: seconds, bytes, sha256 of each, match, what differs."""
    if os.geteuid():
        raise VaultCubeError("making trees needs root: run it with sudo")
    if not shutil.which("mmdebstrap"):
        raise VaultCubeError("mmdebstrap is missing: apt-get install mmdebstrap")
    lock = aptlock.AptLock.read(CHECKOUT / "locks" / target / "apt.lock")
    result: dict[str, Any] = {
        "benchmark": "mkosi",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "target": target,
        "profiles": list(profiles),
        "machine": machine(),
        "simulated": False,
    }
    with folder() as work:
        tree = mkosi_tree(kept or work / "tree", work / "tree.log")
        result["mkosi"] = (tree / "var/lib/dpkg/status").read_text().partition("Package: mkosi\n")[2]
        result["mkosi"] = result["mkosi"].partition("Version: ")[2].partition("\n")[0]
        result["packages"], result["wheels"] = project(target, lock, work)
        result["builds"] = [build(tree, work, number, profiles) for number in (1, 2)]
        one, two = (work / f"{number}" / "image.raw" for number in (1, 2))
        result["packed"] = pack(tree, work)
        result["match"] = result["builds"][0]["sha256"] == result["builds"][1]["sha256"]
        result["differs"] = [] if result["match"] else differences(one, two)
    return result


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the store's file system, gone afterwards; what a killed run left goes first, as in a build."""
    scratch = default_cache() / "work"
    scratch.mkdir(parents=True, exist_ok=True)
    sweep(scratch)
    lock = scratch / f"versus-mkosi-{os.getpid()}.lock"
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            lock.with_suffix("").mkdir()
            yield lock.with_suffix("")
        finally:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def machine() -> dict[str, Any]:
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "kernel": platform.release(),
        "load_1m": os.getloadavg()[0],
    }


def mkosi_tree(tree: Path, log: Path) -> Path:
    """A Debian 13 with mkosi and what it calls; made by this machine's mmdebstrap when it is not there."""
    if (tree / "usr/bin/mkosi").exists():
        return tree
    mirror = next(
        (entry.uri for entry in mirrors.of_machine() if entry.label == "Debian"), "http://ftp.debian.org/debian"
    )
    options = ["--mode=root", "--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    command = ["mmdebstrap", *options, "--include=" + ",".join(TOOLS), SUITE, str(tree), mirror]
    with log.open("wb") as out:
        status = subprocess.run(
            [*chroot.unshare(network=True), *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        ).returncode
    if status:
        raise VaultCubeError(f"mmdebstrap cannot make the tree with mkosi: {log.read_text()[-500:].strip()}")
    return tree


def project(target: str, lock: aptlock.AptLock, work: Path) -> tuple[int, int]:
    """Lay out mkosi's project, an apt repository of the locked .debs, and what the scripts need. Returns the counts."""
    store = Store(Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store"))
    release = next(deb.suite for deb in lock.debs if "-" not in deb.suite)
    shutil.copytree(PROJECT, work / "project")
    # mkosi's local mirror is an archive with dists/: ours, flat, with its index in the place where apt looks for it
    repository.make(store, lock.debs, work / "repo", release)
    index = work / "repo/dists" / release / "main/binary-amd64"
    index.mkdir(parents=True)
    (work / "repo/Packages").rename(index / "Packages")
    text = (work / "repo/Release").read_text()
    (index.parents[1] / "Release").write_text(text.replace(" Packages\n", " main/binary-amd64/Packages\n"))
    (work / "repo/Release").unlink()
    settings = {
        "Distribution": {"Release": release, "LocalMirror": f"file://{WORK}/repo"},
        "Output": {"Seed": SEED},
        "Content": {
            "SourceDateEpoch": str(lock.epoch),
            "Packages": "\n".join(["", *(f"  {deb.name}" for deb in sorted(lock.debs, key=lambda deb: deb.name))]),
        },
    }
    (work / "project/mkosi.conf.d").mkdir()
    (work / "project/mkosi.conf.d/lock.conf").write_text(
        "\n".join(
            f"[{section}]\n" + "".join(f"{key}={value}\n" for key, value in pairs.items())
            for section, pairs in settings.items()
        )
    )
    inputs = work / "inputs"
    (inputs / "requirements").mkdir(parents=True)
    shutil.copy2(Path(sys.executable).parent / "uv", inputs / "uv")
    wheels = set()
    for file in sorted((CHECKOUT / "locks" / target).glob("python-*.lock")):
        found = pylock.read(file)
        wheels |= set(found)
        name = inputs / "requirements" / file.stem.removeprefix("python-")
        name.with_suffix(".all").write_text(pylock.text(found))
        name.with_suffix(".ready").write_text(pylock.text([one for one in found if one.file.endswith(".whl")]))
    store.link([(wheel.sha256, wheel.file) for wheel in wheels], inputs / "wheels")
    return len(lock.debs), len(wheels)


def build(tree: Path, work: Path, number: int, profiles: Sequence[str]) -> dict[str, Any]:
    """One build from nothing: no cache, no output of another. Returns seconds, bytes and the disk's sha256."""
    out = work / f"{number}"
    for name in ("", "workspace", "cache"):
        (out / name).mkdir()
    command = ["mkosi", "--directory", f"{WORK}/project", "--output-directory", f"{WORK}/{number}",
               "--workspace-directory", f"{WORK}/{number}/workspace",
               "--package-cache-directory", f"{WORK}/{number}/cache",
               *(f"--profile={profile}" for profile in profiles), "build"]  # fmt: skip
    load, began, cpu = os.getloadavg()[0], time.monotonic(), processor()
    in_tree(tree, work, command, work / f"{number}.log")
    said: dict[str, Any] = {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(processor() - cpu, 1),
        "load_1m": load,
    }
    for name in ("workspace", "cache"):
        shutil.rmtree(out / name)
    raw = out / "image.raw"
    said |= {"sha256": sha256_of(raw), "bytes": raw.stat().st_size, "allocated_bytes": raw.stat().st_blocks * 512}
    return said


def pack(tree: Path, work: Path) -> dict[str, Any]:
    """The first build's disk packed as our images are. Returns seconds and bytes of each form."""
    said = {}
    for form, command in {
        "qcow2": ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"],
        "raw.zst": ["zstd", "-q", "-f", "-T0", "-3", "--no-progress"],
    }.items():
        began, raw, packed = time.monotonic(), f"{WORK}/1/image.raw", f"{WORK}/1/image.{form}"
        in_tree(tree, work, [*command, raw, *(["-o"] if form == "raw.zst" else []), packed], work / "pack.log")
        file = work / "1" / f"image.{form}"
        said[form] = {"seconds": round(time.monotonic() - began, 1), "bytes": file.stat().st_size}
        file.unlink()
    return said


def in_tree(tree: Path, work: Path, command: Sequence[str], log: Path) -> None:
    chroot.run(tree, command, what=command[0], log=log, binds=[chroot.Bind(work, WORK, writable=True)])


def processor() -> float:
    """Processor time of this process's children so far, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def differences(one: Path, two: Path) -> list[str]:
    """Which files differ, as `image.diff` tells it, without their content: private host keys are among it."""
    ran = subprocess.run(
        [Path(sys.executable).parent / "salt-call", "--out=json", "image.diff", str(one), str(two)],
        cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        found = json.loads(ran.stdout)["local"]
    except (ValueError, KeyError):
        found = f"image.diff gave no result: {(ran.stderr or ran.stdout).strip()[-500:]}"
    if not isinstance(found, list):
        return [str(found)]
    return [line.partition(": content")[0] for line in found if not line.startswith(" ")]


if __name__ == "__main__":
    sys.exit(main())
