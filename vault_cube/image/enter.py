"""Inside the tree of a built image, at native speed: look around, or prove what it can do.

The tree is the finished layers and a folder that takes what is written and is thrown away: the image does not change,
this machine gets nothing installed, and the command has no network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.layers import chroot
from vault_cube.image.progress import note
from vault_cube.image.workspace import STAGED, Workspace

ANSWERS = "/run/answers"
"""where a command in the tree leaves what it answers"""

# a new network namespace has its loopback down, and torchrun's workers meet there
LOOPBACK = 'ip link set lo up && exec "$@"'


def enter(space: Workspace, command: Sequence[str], *, answers: Path | None = None) -> int:
    """Run a command in the tree, with our terminal; nothing: a shell. Returns its exit status.

    Results of `gpu.benchmark` and `gpu.stress` in there are kept in `results(space)`; this checkout, too, is seen, at
    /run/vault-cube/checkout, read-only. answers: a folder that the command sees at /run/answers.

    Raises VaultCubeError when the image is not built, or we are not root.
    """
    if os.geteuid() != 0:
        raise VaultCubeError("the tree of an image is an overlay, and mounting one needs root: run it as root")
    lower = tree(space)
    results(space).mkdir(parents=True, exist_ok=True)
    binds = [
        chroot.Bind(results(space), space.settings.benchmark.results, writable=True),
        chroot.Bind(space.checkout, STAGED),
    ]
    if answers:
        binds.append(chroot.Bind(answers, ANSWERS, writable=True))
    with space.scratch("enter") as work:
        for folder in ("upper", "work", "merged"):
            (work / folder).mkdir()
        # as in a build: what a package's script starts in here would be a daemon of this machine
        policy = work / "upper/usr/sbin/policy-rc.d"
        policy.parent.mkdir(parents=True)
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        return chroot.run(
            chroot.Overlay(lower, work / "upper", work / "work"),
            ["sh", "-c", LOOPBACK, "sh", *(command or ["bash", "-l"])],
            what="the command",
            log=None,
            mountpoint=work / "merged",
            binds=binds,
            environment={"TERM": os.environ.get("TERM", "dumb")},
            check=False,
        )


def tree(space: Workspace) -> list[Path]:
    """The layers of this checkout's image, bottom first; where they are not made yet, those of the image in dist/.

    Raises VaultCubeError when neither is there.
    """
    found = [layer_cache.find(space.layers, key.key) for key in keys.layer_keys(space).values()]
    if not all(found):
        try:
            made = json.loads((space.dist / f"{recipe.basename(space)}.manifest.json").read_text())["layers"]
        except (OSError, ValueError, KeyError):
            made = {}
        found = [layer_cache.find(space.layers, made[name]) for name in keys.ORDER if name in made]
        if len(found) == len(keys.ORDER) and all(found):
            note("the checkout has changed since: this is the tree of the image in dist/")
    if len(found) != len(keys.ORDER) or not all(found):
        raise VaultCubeError(f"{space.target}: its layers are not built: `make image TARGET={space.target}` makes them")
    return [entry.tree for entry in found if entry]


def results(space: Workspace) -> Path:
    """Where benchmarks in the tree leave their results: with the user, one after the other."""
    return space.build / "benchmarks"


def benchmark(space: Workspace, suite: str | None, *, quick: bool, force: bool) -> tuple[dict[str, Any], int]:
    """`gpu.benchmark` in the tree, then the grain as a later call sees it, and the report.

    Returns what both said, and the benchmark's exit status. Raises VaultCubeError when it gave no answer.
    """
    salt = "salt-call --local --retcode-passthrough --log-level=quiet --out=json"
    chosen = [f"suite={suite}"] if suite else []
    # the grain only of this run: the tree's cache is empty before
    script = f"""
        {salt} --out-file={ANSWERS}/benchmark gpu.benchmark "$@"
        status=$?
        {salt} --out-file={ANSWERS}/grain grains.item gpu_benchmark
        {salt} --out-file={ANSWERS}/report gpu.report
        exit $status"""
    with space.scratch("answers") as folder:
        words = [*chosen, f"quick={quick}", f"force={force}"]
        status = enter(space, ["sh", "-c", script, "sh", *words], answers=folder)
        said = {name: _answer(folder / name) for name in ("benchmark", "grain")}
    if not isinstance(said["benchmark"], dict):
        raise VaultCubeError(f"gpu.benchmark in the tree: {said['benchmark'] or f'no answer, status {status}'}")
    return {**said, "results": str(results(space))}, status


def _answer(file: Path) -> Any:
    try:
        return json.loads(file.read_text())["local"]
    except (OSError, ValueError, KeyError):
        return None
