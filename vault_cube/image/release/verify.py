"""Verify that an image is reproducible: build it a second time in other conditions, and compare the files.

The second build runs in a copy of the checkout (written in reverse order) in another folder, from an empty layer cache,
without a network, on one CPU, with another umask, time zone, locale, home, user and host name, on a file system that
records no access times (noatime). If libfaketime is installed, the clock of every command in a tree is more than a year
ahead. Both builds share the store, whose files are verified by SHA-256, and the checkout's .venv.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image import checkout, recipe, store
from vault_cube.image.attest import finished, manifest
from vault_cube.image.attest.manifest import Manifest
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.inspect import diff
from vault_cube.image.progress import note, step
from vault_cube.image.workspace import Workspace

STAGES = (("image.fetch", "locked=True"), ("image.tools",), ("image.disk",))
NAMESPACES = ("setpriv", "--pdeathsig", "KILL", "unshare", "--uts", "--net", "--mount")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SECOND_BUILD, LATER_CHROOT = (Path(__file__).with_name(name) for name in ("second_build.sh", "later_chroot.sh"))
LATER_S = 400 * 86400 + 5 * 3600 + 1234
"""Seconds by which the clock of the second build is ahead."""
SHOWN = 30
"""Maximum number of lines with differences in an error message."""


@dataclass(frozen=True)
class Built:
    """A finished image: its manifest, the folder with its files, and the layer cache of its build."""

    manifest: Manifest
    folder: Path
    layers: Path


class Verification(TypedDict):
    """The result of a verification, in build/<target>/verify/verify.json."""

    target: str
    same: bool
    raw_sha256: str
    files: dict[str, str]
    """SHA-256 of each file of the image."""
    varied: dict[str, str]
    """Each condition in which the second build differed, with its value."""
    seconds: int
    """Duration of the second build."""


def verify(space: Workspace) -> Verification:
    """Build a second time and compare. Returns the checksums and the conditions that were varied.

    Raises VaultCubeError if the builds differ; it names files and bytes, and build/<target>/verify/ has the whole list.
    """
    with space.exclusive():
        first = _first(space)
        report = space.build / "verify"
        shutil.rmtree(report, ignore_errors=True)
        report.mkdir(parents=True)
        with space.scratch("verify") as work:
            other = work / "elsewhere/vc"
            checkout.copy(space.checkout, other)
            started = time.monotonic()
            second, varied = build_elsewhere(space, other, work, report)
            seconds = round(time.monotonic() - started)
            with step("compare"):
                unequal = compare(first, second)
            if unequal:
                lines = [*unequal, *differences(space, first, second)]
                (report / "differences.txt").write_text("\n".join(lines) + "\n")
                more = f"\n… all {len(lines)} lines are in {report}/differences.txt" if len(lines) > SHOWN else ""
                raise VaultCubeError(f"{space.target}: two builds differ\n" + "\n".join(lines[:SHOWN]) + more)
    result: Verification = {
        "target": space.target,
        "same": True,
        "raw_sha256": first.manifest["raw_sha256"],
        "files": {name: file["sha256"] for name, file in first.manifest["files"].items()},
        "varied": varied,
        "seconds": seconds,
    }
    (report / "verify.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def _first(space: Workspace) -> Built:
    """Return the image to compare with; it is built first if it is not up to date."""
    image = finished.current(space)
    if image:
        return Built(image, space.dist, space.layers)
    recipe.make_fetch(space)
    inputs = Inputs.read(space)
    recipe.make_tools(space, inputs)
    return Built(recipe.make_disk(space, inputs), space.build / "image", space.layers)


def build_elsewhere(space: Workspace, other: Path, work: Path, report: Path) -> tuple[Built, dict[str, str]]:
    """Build a copy of a checkout from an empty cache in other conditions; the store needs all files of its locks.

    other: the copy, in the scratch folder `work`. report: folder for the logs.
    Returns the image and each varied condition with its value. Raises VaultCubeError if the build fails.
    """
    varied = _second(space, other, work, report)
    folder = other / "build" / space.target / "image"
    file = next(folder.glob("*.manifest.json"))
    return Built(manifest.read(folder, file.name.removesuffix(".manifest.json")), folder, work / "cache/layers"), varied


def _second(space: Workspace, other: Path, work: Path, report: Path) -> dict[str, str]:
    """Run the second build in the copy `other` of the checkout. Returns each varied condition with its value."""
    cpus = sorted(os.sched_getaffinity(0))
    failed = work / "faketime-failed"
    environment = _environment(space, other, work)
    before = os.environ.get("LC_ALL") or os.environ.get("LANG")
    varied = {
        "folder": str(other),
        "layer cache": "empty",
        "network": "none",
        "umask": "077",
        "time zone": environment["TZ"],
        "locale": f"{environment['LC_ALL']} ({before or 'none set'} before)",
        "host name": "elsewhere",
        "CPUs": f"1 ({len(cpus)} before)",
        "access times": "not recorded (noatime)",
        "file creation order": "last file first",
    }
    if FAKETIME.exists():
        environment |= faketime(work / "bin", failed)
        # commands in trees only: the library would make the threads of the builder itself wait three times as long
        environment["PATH"] = f"{work / 'bin'}:{environment['PATH']}"
    else:
        note("libfaketime is not installed: the second build uses the real clock")
    try:
        for stage, *arguments in STAGES:
            command = stage_command(space, stage, *arguments)
            ran = process.run(
                [*NAMESPACES, "sh", SECOND_BUILD, work, str(cpus[0]), *command],
                cwd=other,
                env=environment,
                capture=False,
                ok=None,
            )
            if ran.returncode:
                raise VaultCubeError(
                    f"the second build of {space.target} failed in {stage}: see the messages above and {report}/logs"
                )
    finally:
        logs = other / "build" / space.target / "logs"
        if logs.is_dir():
            shutil.copytree(logs, report / "logs")
    return {**varied, "time of day": _time_of_day(failed)}


def _environment(space: Workspace, other: Path, work: Path) -> dict[str, str]:
    """Return the variables of the second build in the copy `other`, and make its home in the folder `work`."""
    (work / "home").mkdir()
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(work / "home"),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "TZ": "ELSEWHERE-13:37",
        "LC_ALL": _another_locale(),
        "TERM": os.environ.get("TERM", "dumb"),
        "VAULT_CUBE_CACHE": str(work / "cache"),
        "VAULT_CUBE_STORE": str(space.store),
        # comes before the path in .venv, so that the copy's code is used and not the checkout's
        "PYTHONPATH": str(other),
    }


def _time_of_day(failed: Path) -> str:
    """Describe the clock of the second build. failed: the file of `faketime`, missing if no command failed."""
    if not FAKETIME.exists():
        return "only the time that the first build took"
    if not failed.exists():
        return f"{LATER_S} s later by libfaketime, in every command of every tree"
    commands = len(failed.read_text().splitlines())
    return f"{LATER_S} s later by libfaketime, except in {commands} commands whose tree cannot load it"


def stage_command(space: Workspace, stage: str, *arguments: str) -> list[str]:
    """Return the command that runs a stage in the current folder, with the salt-call of this process."""
    return [str(space.uv.parent / "salt-call"), "--out-file=/dev/null", stage, f"target={space.target}", *arguments]


def _another_locale() -> str:
    """Return an installed locale that is neither English nor C; POSIX if there is none."""
    names = process.run(["locale", "-a"], ok=None).stdout.split()
    return next((name for name in names if not name.startswith(("C", "POSIX", "en"))), "POSIX")


def faketime(folder: Path, failed: Path, library: Path = FAKETIME) -> dict[str, str]:
    """Put a program `chroot` into a folder that runs each command in a tree with libfaketime preloaded.

    The builder finds it through PATH when it runs `chroot TREE env -i …`, so its code does not change. failed: file
    that gets one line for each command whose tree cannot load the library. Returns the variables for the program.
    """
    folder.mkdir(parents=True)
    shutil.copyfile(LATER_CHROOT, folder / "chroot")
    (folder / "chroot").chmod(0o755)
    return {"VC_LIBFAKETIME": str(library), "VC_LATER_S": str(LATER_S), "VC_FAKETIME_FAILED": str(failed)}


def compare(first: Built, second: Built) -> list[str]:
    """Compare the files of two builds; they are hashed again. Returns one line for each file that differs."""
    lines = []
    raw = [built.manifest["raw_sha256"] for built in (first, second)]
    note(f"raw: sha256 {raw[0]}" + ("" if raw[0] == raw[1] else f" [red]and {raw[1]}[/]"))
    if raw[0] != raw[1]:
        lines.append(f"raw: sha256 {raw[0]} and {raw[1]}")
    for name in first.manifest["files"]:
        files = [built.folder / name for built in (first, second)]
        sums = [store.sha256_of(file) for file in files]
        equal = sums[0] == sums[1]
        if not equal and name.endswith(".provenance.json") and _but_commit(files[0]) == _but_commit(files[1]):
            note(
                f"{name}: equal except for the commit; the commits since the first build changed no input of the image"
            )
            continue
        note(f"{name}: sha256 {sums[0]}" + ("" if equal else f" [red]and {sums[1]}[/]"))
        if not equal:
            at = diff.first_difference(*files)
            lines.append(f"{name}: sha256 {sums[0]} and {sums[1]}" + (f", from byte {at[0]}" if at else ""))
    return lines


def _but_commit(file: Path) -> Any:
    """Read a provenance without its entry for the checkout, which may differ only in commits that changed no input."""
    statement = json.loads(file.read_text())
    definition = statement["predicate"]["buildDefinition"]
    definition["resolvedDependencies"] = [
        item for item in definition["resolvedDependencies"] if item["name"] != "checkout"
    ]
    return statement


def differences(space: Workspace, first: Built, second: Built) -> list[str]:
    """Return the differences between two builds, one line each: the files of each layer, then those of the disk."""
    lines = []
    for name in keys.ORDER:
        layer_keys = [built.manifest["layers"][name] for built in (first, second)]
        left, right = (
            layer_cache.find(side.layers, key) for side, key in zip((first, second), layer_keys, strict=True)
        )
        if layer_keys[0] != layer_keys[1]:
            lines.append(f"layer {name}: the keys differ, so its inputs were not the same")
        elif left and right and left.meta["digest"] != right.meta["digest"]:
            lines += [f"layer {name}:", *(f"  {line}" for line in diff.layers(left.folder, right.folder))]
    if first.manifest["raw_sha256"] != second.manifest["raw_sha256"]:
        image = next(name for name in first.manifest["files"] if name.endswith((".qcow2", ".raw.zst")))
        lines += ["image:", *(f"  {line}" for line in diff.diff(space, first.folder / image, second.folder / image))]
    return lines
