"""Measure `state.apply` without changes in the tree of a built image, with this checkout and an earlier commit in turn.

    sudo .venv/bin/python benchmarks/no_op.py --before COMMIT --results benchmarks/results

Run as root, after `make image` of this checkout or of the commit. The tree is an overlay without a network, and is
removed at the end. In each round, each of the two applies its states once without being measured, since the states may
differ. The result has medians with intervals, and the ratios of the pairs, this checkout to the commit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))
sys.path.insert(0, str(TOP / "benchmarks"))
import common  # noqa: E402 needs sys.path

from vault_cube.image.layers import chroot  # noqa: E402 needs sys.path

INSIDE = "/run/no_op"
CHECKOUT = "/opt/vault-cube/checkout"
WORK = TOP / "build/no_op"
TREES = """
import json, sys
sys.path[:0] = ["tests", "tests/integration"]
from base_tree import chosen_workspace
from vault_cube.image.inputs import Inputs
from vault_cube.image.inside import enter
space = chosen_workspace(sys.argv[1])
print(json.dumps([str(tree) for tree in enter.tree(space, Inputs.read(space).keys)]))
"""
ROUNDS = """\
import json, os, shutil, subprocess, sys
from pathlib import Path
from timed import timed
here, rounds = Path("/run/no_op"), int(sys.argv[1])
log = here / "out/log"


def mounts(name):
    return {here / name: "/opt/vault-cube/checkout", here / "out/cache" / name: "/var/cache/salt"}


def call(*words):
    command = ["/usr/local/bin/salt-call", "--local", "--retcode-passthrough", "--out=json", "state.apply", *words]
    sample = timed(command, log)
    return sample, json.loads(log.read_text())["local"].values()


situations = {"first, test=True": ["test=True"], "test=True": ["test=True"], "apply": []}
samples = []
Path("/var/cache/salt").mkdir(exist_ok=True)
for number in range(rounds + 1):
    for name in ("before", "now"):
        (here / "out/cache" / name).mkdir(parents=True, exist_ok=True)
        for source, target in mounts(name).items():
            subprocess.run(["mount", "--bind", source, target], check=True)
        # where the states of the two differ, the other one has just changed the tree
        subprocess.run(["/usr/local/bin/salt-call", "--local", "--out=quiet", "state.apply"],
                       env={**os.environ, "VAULT_CUBE_UNGUARDED": "1"}, stdout=subprocess.DEVNULL, check=True)
        if not number:
            # the image carries other files than these
            subprocess.run(["/usr/lib/vault-cube/drift", "accept", name], check=True)
        for situation, words in situations.items():
            if situation.startswith("first"):
                # the mounts are of these folders: only their content goes
                for folder in (*(here / "out/cache" / name).iterdir(), *(here / name).rglob("__pycache__")):
                    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
            sample, states = call(*words)
            wrong = [state["__id__"] for state in states if state["changes"] or state["result"] is not True]
            if wrong:
                sys.exit(f"{name}: states that change the tree: {wrong}")
            if number:
                samples.append({"checkout": name, "situation": situation, "states": len(states), **sample})
            print(number, name, situation, sample, flush=True)
        subprocess.run(["umount", *mounts(name).values()], check=True)
(here / "out/result.json").write_text(json.dumps({"samples": samples, "load": os.getloadavg()}))
"""


def main() -> None:
    parser = common.options(__doc__, rounds=9)
    parser.add_argument("--before", required=True, help="commit to compare with")
    options = common.parsed(parser)
    load = os.getloadavg()[0]
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        earlier = WORK / "commit"
        earlier.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", options.before], cwd=TOP, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", earlier], input=archive, check=True)
        inside = run(trees(options.target, earlier), {"before": earlier, "now": TOP}, options)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    unit = "seconds; ratio: this checkout to the commit, in the same round"
    common.write(options, "no-op", load, inside, unit=unit, times=times(inside["samples"]))


def trees(target: str, earlier: Path) -> list[Path]:
    """Return the layers of the image of this checkout or, if it is not built, of the earlier commit."""
    for checkout in (TOP, earlier):
        ran = subprocess.run(
            [sys.executable, "-P", "-c", TREES, target], cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode == 0:
            return [Path(tree) for tree in json.loads(ran.stdout)]
    sys.exit(f"no_op.py: {ran.stderr.strip().splitlines()[-1]}")


def run(lower: list[Path], checkouts: dict[str, Path], options: argparse.Namespace) -> Any:
    """Run all rounds in an overlay of the layers. Returns the samples and the load at the end."""
    for folder in ("upper", "layer-work", "merged", "out"):
        (WORK / folder).mkdir()
    chroot.block_daemons(WORK / "upper")
    (WORK / "rounds.py").write_text(ROUNDS)
    binds = [chroot.Bind(WORK / "out", f"{INSIDE}/out", writable=True)]
    binds += [chroot.Bind(file, f"{INSIDE}/{file.name}") for file in (WORK / "rounds.py", TOP / "benchmarks/timed.py")]
    for name, checkout in checkouts.items():
        common.copy_carried(checkout, options.target, WORK / name)
        binds.append(chroot.Bind(WORK / name, f"{INSIDE}/{name}", writable=True))
    overlay = chroot.Overlay(lower, WORK / "upper", WORK / "layer-work")
    command = ["sh", "-c", 'ip link set lo up; exec python3 "$@"', "sh", f"{INSIDE}/rounds.py", str(options.rounds)]
    if chroot.run(overlay, command, what="the rounds", log=None, mountpoint=WORK / "merged", binds=binds, check=False):
        sys.exit("no_op.py: the rounds failed: see above")
    return json.loads((WORK / "out/result.json").read_text())


def times(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians with intervals by situation, and those of the pairs' ratios."""
    result: dict[str, Any] = {}
    for situation in dict.fromkeys(sample["situation"] for sample in samples):
        result[situation] = {}
        for key in ("wall", "cpu"):
            by_checkout = {
                name: [s[key] for s in samples if (s["checkout"], s["situation"]) == (name, situation)]
                for name in ("before", "now")
            }
            ratios = [now / before for before, now in zip(*by_checkout.values(), strict=True)]
            both = {**by_checkout, "ratio": ratios}
            result[situation][key] = {name: common.median(values) for name, values in both.items()}
    return result


if __name__ == "__main__":
    main()
