"""Build a target's packages and wheels into a bootable disk with mkosi, twice and offline, and compare the two.

Run as root on Debian or Ubuntu, from the checkout, after `make image`, which fills the store:

    sudo .venv/bin/python benchmarks/versus/mkosi_build.py --results benchmarks/results

mkosi is that of Debian's suite sid, the newest that Debian has (27.1 in November 2026; Debian 13 has 25.3, Debian 12
has 14), in a tree made by mmdebstrap from the mirror that this machine's apt uses. PyPI has no mkosi. Only making that
tree needs the network. Everything else runs in namespaces without a network, and all files are removed at the end.
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

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.layers import chroot, repository
from vault_cube.image.locks import aptlock, mirrors, pylock
from vault_cube.image.store import Store, sha256_of
from vault_cube.image.workspace import default_cache, sweep

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = Path(__file__).resolve().parent / "mkosi"
SUITE = "sid"
TOOLS = (
    "mkosi", "mmdebstrap", "systemd-repart", "systemd-ukify", "systemd-boot-efi", "e2fsprogs", "dosfstools", "mtools",
    "kmod", "cpio", "zstd", "qemu-utils", "debian-archive-keyring", "ca-certificates",
)  # fmt: skip
SEED = "6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a01"
WORK = "/run/work"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="debian-12", help="target whose lock is built (default: %(default)s)")
    parser.add_argument(
        "--profile", action="append", default=[], help="a profile that you added to mkosi/mkosi.profiles"
    )
    parser.add_argument(
        "--tree", type=Path, help="folder of the tree with mkosi; made if it does not exist, and not removed"
    )
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


def versus(target: str, profiles: Sequence[str], saved_tree: Path | None) -> dict[str, Any]:
    """Build twice and compare.

    Returns the result: seconds, bytes and SHA-256 of each build, whether they match, and the files that differ. Raises
    VaultCubeError without root or mmdebstrap, or if a build fails.
    """
    if os.geteuid():
        raise VaultCubeError("making trees requires root; run it with sudo")
    process.required("mmdebstrap", "mmdebstrap")
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
        tree = mkosi_tree(saved_tree or work / "tree", work / "tree.log")
        result["mkosi"] = version_in(tree)
        result["packages"], result["wheels"] = project(target, lock, work)
        result["builds"] = [build(tree, work, number, profiles) for number in (1, 2)]
        first, second = (work / f"{number}" / "image.raw" for number in (1, 2))
        result["packed"] = pack(tree, work)
        result["match"] = result["builds"][0]["sha256"] == result["builds"][1]["sha256"]
        result["differs"] = [] if result["match"] else differences(first, second)
    return result


def version_in(tree: Path) -> str:
    """Return the version of mkosi in a tree."""
    stanza = (tree / "var/lib/dpkg/status").read_text().partition("Package: mkosi\n")[2]
    return stanza.partition("Version: ")[2].partition("\n")[0]


@contextmanager
def folder() -> Iterator[Path]:
    """Make a scratch folder, and remove it at the end. As in a build, remove the folders of killed runs first."""
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
    """Describe this machine."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "kernel": platform.release(),
        "load_1m": os.getloadavg()[0],
    }


def mkosi_tree(tree: Path, log: Path) -> Path:
    """Return a tree with mkosi and the programs that it runs; make it if it does not exist."""
    if (tree / "usr/bin/mkosi").exists():
        return tree
    source = next(
        (entry.uri for entry in mirrors.of_machine() if entry.label == "Debian"), "http://ftp.debian.org/debian"
    )
    options = ["--mode=root", "--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    # a mirror may be some weeks old; the signature is still verified
    options.append("--aptopt=Acquire::Check-Valid-Until false")
    command = ["mmdebstrap", *options, "--include=" + ",".join(TOOLS), SUITE, str(tree), source]
    with log.open("wb") as out:
        status = subprocess.run(
            [*chroot.unshare(network=True), *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        ).returncode
    if status:
        raise VaultCubeError(f"mmdebstrap failed to make the tree with mkosi: {log.read_text()[-500:].strip()}")
    return tree


def release_of(lock: aptlock.AptLock) -> str:
    """Return the release of a lock's packages, such as bookworm."""
    return next(deb.suite for deb in lock.debs if "-" not in deb.suite)


def mirror(store: Store, debs: Sequence[aptlock.Deb], repo: Path, release: str) -> None:
    """Make a repository with dists/, which mkosi needs; ours is flat, so move its index to where apt expects it."""
    repository.make(store, debs, repo, release)
    index = repo / "dists" / release / "main/binary-amd64"
    index.mkdir(parents=True)
    (repo / "Packages").rename(index / "Packages")
    text = (repo / "Release").read_text()
    (index.parents[1] / "Release").write_text(text.replace(" Packages\n", " main/binary-amd64/Packages\n"))
    (repo / "Release").unlink()


def project(target: str, lock: aptlock.AptLock, work: Path) -> tuple[int, int]:
    """Write mkosi's project, an apt repository of the locked .debs, and the inputs of the scripts.

    Returns the number of packages and of wheels.
    """
    store = Store(Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store"))
    release = release_of(lock)
    shutil.copytree(PROJECT, work / "project")
    mirror(store, lock.debs, work / "repo", release)
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
        locked = pylock.read(file)
        wheels |= set(locked)
        name = inputs / "requirements" / file.stem.removeprefix("python-")
        name.with_suffix(".all").write_text(pylock.text(locked))
        name.with_suffix(".ready").write_text(pylock.text([wheel for wheel in locked if wheel.file.endswith(".whl")]))
    store.link([(wheel.sha256, wheel.file) for wheel in wheels], inputs / "wheels")
    return len(lock.debs), len(wheels)


def build(tree: Path, work: Path, number: int, profiles: Sequence[str]) -> dict[str, Any]:
    """Build once, without a cache or output of another build; return seconds, bytes and SHA-256 of the disk."""
    out = work / f"{number}"
    for name in ("", "workspace", "cache"):
        (out / name).mkdir()
    command = ["mkosi", "--directory", f"{WORK}/project", "--output-directory", f"{WORK}/{number}",
               "--workspace-directory", f"{WORK}/{number}/workspace",
               "--package-cache-directory", f"{WORK}/{number}/cache",
               *(f"--profile={profile}" for profile in profiles), "build"]  # fmt: skip
    load, began, cpu = os.getloadavg()[0], time.monotonic(), processor()
    in_tree(tree, work, command, work / f"{number}.log")
    measured: dict[str, Any] = {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(processor() - cpu, 1),
        "load_1m": load,
    }
    for name in ("workspace", "cache"):
        shutil.rmtree(out / name)
    raw = out / "image.raw"
    measured |= {"sha256": sha256_of(raw), "bytes": raw.stat().st_size, "allocated_bytes": raw.stat().st_blocks * 512}
    return measured


def pack(tree: Path, work: Path) -> dict[str, Any]:
    """Pack the first build's disk as our images are packed; return seconds and bytes by format."""
    sizes = {}
    for file_format, command in {
        "qcow2": ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"],
        "raw.zst": ["zstd", "-q", "-f", "-T0", "-3", "--no-progress"],
    }.items():
        began, raw, packed = time.monotonic(), f"{WORK}/1/image.raw", f"{WORK}/1/image.{file_format}"
        in_tree(tree, work, [*command, raw, *(["-o"] if file_format == "raw.zst" else []), packed], work / "pack.log")
        file = work / "1" / f"image.{file_format}"
        sizes[file_format] = {"seconds": round(time.monotonic() - began, 1), "bytes": file.stat().st_size}
        file.unlink()
    return sizes


def in_tree(tree: Path, work: Path, command: Sequence[str], log: Path) -> None:
    """Run a command in the tree with mkosi, without a network; the work folder is at /run/work."""
    chroot.run(tree, command, what=command[0], log=log, binds=[chroot.Bind(work, WORK, writable=True)])


def processor() -> float:
    """Return the CPU time of this process's finished children so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def differences(first: Path, second: Path) -> list[str]:
    """List the files that differ, from `image.diff`, without their content, which includes private host keys."""
    ran = subprocess.run(
        [Path(sys.executable).parent / "salt-call", "--out=json", "image.diff", str(first), str(second)],
        cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        lines = json.loads(ran.stdout)["local"]
    except (ValueError, KeyError):
        lines = f"image.diff gave no result: {(ran.stderr or ran.stdout).strip()[-500:]}"
    if not isinstance(lines, list):
        return [str(lines)]
    return [line.partition(": content")[0] for line in lines if not line.startswith(" ")]


if __name__ == "__main__":
    sys.exit(main())
