"""Measure how long the comparison of a box with its image takes, in seconds of wall and processor time.

On a box, as root:                python3 drift.py [--runs 3]
In the tree of a built image:     salt-call image.enter "python3 /run/vault-cube/checkout/benchmarks/drift.py"

Measures the guard before state.apply, the default mode, the mode that reads all files, `state.apply test=True` and
`drift.report`. Prints one JSON document. In a tree, the first run reads all files, because an overlay does not have the
change times of an image's disk; it is `first_s`. The ratio of drift.report to state.apply is from the same runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import time

PROGRAM = "/usr/lib/vault-cube/drift"
SALT = ["/opt/vault-cube/salt/bin/salt-call", "--local", "--log-level=quiet", "--out=json"]
CALLS = {
    "guard": [PROGRAM, "guard"],
    "default": [PROGRAM, "compare", "--json"],
    "full": [PROGRAM, "compare", "--json", "--full"],
    "state.apply test=True": [*SALT, "state.apply", "test=True"],
    "drift.report": [*SALT, "drift.report"],
}


def measure(call: list[str]) -> tuple[float, float, str]:
    """Run a command. Returns its wall time and processor time in seconds, and its output."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(call, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(call)}: exit status {ran.returncode}: {ran.stderr.strip()[-300:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ran.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    first, _, _ = measure(CALLS["default"])
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in CALLS}
    files = 0
    # alternating, so that a machine that gets slower affects all calls
    for _ in range(runs):
        for name, call in CALLS.items():
            wall, cpu, output = measure(call)
            samples[name].append((wall, cpu))
            if name == "full":
                files = json.loads(output)["files"]
    seconds = {
        name: {
            "wall_s": round(statistics.median(wall for wall, _ in values), 2),
            "cpu_s": round(statistics.median(cpu for _, cpu in values), 2),
            "samples": [[round(wall, 2), round(cpu, 2)] for wall, cpu in values],
        }
        for name, values in samples.items()
    }
    pairs = zip(samples["drift.report"], samples["state.apply test=True"], strict=True)
    ratios = [report / apply for (_, report), (_, apply) in pairs]
    print(
        json.dumps(
            {
                "files": files,
                "processors": os.cpu_count(),
                "load": os.getloadavg()[0],
                "first_s": round(first, 2),
                "seconds": seconds,
                "cpu_report_per_apply": round(statistics.median(ratios), 2),
                "simulated": False,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
