"""Measure how long the keys of all layers take, in seconds. Run it with the checkout's Python.

    .venv/bin/python benchmarks/keys.py [--target debian-12] [--runs 15]

Each sample is a new process, so no key is computed yet: `Inputs.read` reads all locks and all files that are part of
a key. Starting Python and rendering the pillar are not measured. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LIMIT_S = 0.3


def time_keys(target: str) -> None:
    """Compute the keys of a target, and print the seconds of wall and CPU time as JSON."""
    import salt.config
    import salt.loader
    from salt.pillar import get_pillar

    from vault_cube.image.inputs import Inputs
    from vault_cube.image.workspace import Workspace
    from vault_cube.settings import check

    os.chdir(TOP)  # the paths in conf/minion are relative
    opts = salt.config.minion_config("conf/minion")
    opts["vault_cube"] = {**opts["vault_cube"], "target": target}
    pillar = json.loads(json.dumps(get_pillar(opts, salt.loader.grains(opts), opts["id"], None).compile_pillar()))
    space = Workspace(TOP, check(pillar), pillar)
    started, before = time.perf_counter(), time.process_time()
    computed = Inputs.read(space).keys
    print(
        json.dumps({"wall": time.perf_counter() - started, "cpu": time.process_time() - before, "keys": len(computed)})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="debian-12")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        time_keys(chosen.target)
        return

    from vault_cube.bench.run.machine import describe

    call = [sys.executable, __file__, "--one", "--target", chosen.target]
    samples = [
        json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        for _ in range(chosen.runs)
    ]
    spread = {}
    for what in ("wall", "cpu"):
        values = sorted(round(sample[what], 4) for sample in samples)
        spread[f"{what}_s"] = {"median": statistics.median(values), "least": values[0], "most": values[-1]}
    described = describe([], None, False, None)
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {key: getattr(described, key) for key in ("processor", "cores", "memory_gib", "kernel")},
        "load_average": described.load,
        "command": f"benchmarks/keys.py --target {chosen.target} --runs {chosen.runs}",
        "keys": samples[0]["keys"],
        "limit_s": LIMIT_S,
        **spread,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
