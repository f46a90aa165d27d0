"""Run commands in the tree of a built image at native speed, without booting it.

The tree is an overlay of the finished layers and a scratch folder, so that changes are discarded afterwards. Nothing is
installed on this machine, and the command has no network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image.attest import finished, manifest
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import chroot
from vault_cube.image.progress import note
from vault_cube.image.workspace import STAGED, Workspace

ANSWERS = "/run/answers"
"""Folder in the tree to which a command writes its results."""

# the loopback interface of a new network namespace is down, and torchrun's workers connect over it
LOOPBACK = 'ip link set lo up && exec "$@"'


def enter(space: Workspace, command: Sequence[str], *, answers: Path | None = None) -> int:
    """Run a command, or a shell if `command` is empty, in the tree on the current terminal. Returns its exit status.

    Results of `gpu.benchmark` and `gpu.stress` are kept in `results(space)`. The checkout is mounted read-only at
    /run/vault-cube/checkout. answers: a folder that is mounted at /run/answers.

    Raises VaultCubeError if the image is not built, or the user is not root.
    """
    if os.geteuid() != 0:
        raise VaultCubeError("mounting the tree of an image needs root: run the command as root")
    lower = tree(space, Inputs.read(space).keys)
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
        # as in a build: a daemon that a package script starts would run on this machine
        chroot.block_daemons(work / "upper")
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


def tree(space: Workspace, wanted: Mapping[str, keys.Key]) -> list[Path]:
    """Return the layers of the image, bottom first. wanted: the keys of all layers.

    They are the layers of the checkout's current state or, if these are not built, those of the image in dist/.
    Raises VaultCubeError if neither is in the cache.
    """
    layers = [layer_cache.find(space.layers, key.key) for key in wanted.values()]
    if not all(layers):
        try:
            in_dist = manifest.read(space.dist, finished.basename(space))["layers"]
        except (OSError, ValueError, KeyError):
            in_dist = {}
        layers = [layer_cache.find(space.layers, in_dist[name]) for name in keys.ORDER if name in in_dist]
        if len(layers) == len(keys.ORDER) and all(layers):
            note("the checkout has changed since the last build: using the tree of the image in dist/")
    if len(layers) != len(keys.ORDER) or not all(layers):
        raise VaultCubeError(f"{space.target}: the layers are not built: run `make image TARGET={space.target}`")
    return [entry.tree for entry in layers if entry]


def results(space: Workspace) -> Path:
    """Return the folder in which the results of benchmarks in the tree are kept."""
    return space.build / "benchmarks"


def benchmark(space: Workspace, suite: str | None, *, quick: bool, force: bool) -> tuple[dict[str, object], int]:
    """Run `gpu.benchmark` in the tree, then read the grain `gpu_benchmark` and write the report.

    Returns the benchmark's result, the grain and the folder of the results, and the benchmark's exit status.
    Raises VaultCubeError if the benchmark printed no result.
    """
    chosen = [f"suite={suite}"] if suite else []
    with space.scratch("answers") as folder:
        words = [*chosen, f"quick={quick}", f"force={force}"]
        status = enter(space, ["sh", f"{STAGED}/vault_cube/image/inside/benchmark.sh", ANSWERS, *words], answers=folder)
        answer = {name: _answer(folder / name) for name in ("benchmark", "grain")}
    if not isinstance(answer["benchmark"], dict):
        problem = answer["benchmark"] or f"no result; the exit status is {status}"
        raise VaultCubeError(f"gpu.benchmark in the tree: {problem}")
    return {**answer, "results": str(results(space))}, status


def _answer(file: Path) -> Any:
    try:
        return json.loads(file.read_text())["local"]
    except (OSError, ValueError, KeyError):
        return None
