"""Run comparisons in the tree of the built image, and save them in benchmarks/results/. Run with the checkout's Python.

    .venv/bin/python benchmarks/versus/record.py ddp_plain

Writes <date>-versus-<name>.json: machine, command, load, all pairs, and the median of their ratios with its 95 %
interval. Exits with 1 if the harness costs more than 3 %, that is, if the whole interval is below 0.97.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))
from vault_cube.bench.judge import interval  # noqa: E402 needs sys.path
from vault_cube.bench.run import machine  # noqa: E402 needs sys.path

CHECKOUT = "/run/vault-cube/checkout"
LEAST = 0.97
"""Least acceptable ratio of our rate to the plain one."""
COMMANDS = {
    "ddp_plain": "env OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo torchrun --nproc-per-node 2 --master-addr 127.0.0.1 "
    f"{CHECKOUT}/benchmarks/versus/ddp_plain.py --repeats 25 --steps 10",
}


def record(name: str, target: str) -> bool:
    """Run one comparison and save it; return whether the upper end of the interval reaches `LEAST`."""
    answer = TOP / "build" / target / "benchmarks" / f"versus-{name}.json"
    answer.unlink(missing_ok=True)
    before = os.getloadavg()
    inside = f"{COMMANDS[name]} > /var/lib/vault-cube/benchmarks/{answer.name}"
    call = [str(TOP / ".venv/bin/salt-call"), "--retcode-passthrough", "image.enter", inside, f"target={target}"]
    if subprocess.run(call, cwd=TOP, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"{name}: the command failed in the tree of the image: {inside}")
    samples = json.loads(answer.read_text())
    low, high = interval.median_interval(samples["ratio"])
    described = machine.describe([], None, False, None)
    document: dict[str, Any] = {
        "name": name,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "tree": target,
        "command": f"salt-call image.enter '{COMMANDS[name]}'",
        "machine": {key: getattr(described, key) for key in ("processor", "cores", "memory_gib", "kernel")},
        "load_average": {"before": round(before[0], 2), "after": described.load[0]},
        "ratio": {
            "median": statistics.median(samples["ratio"]),
            "low": low,
            "high": high,
            "variation": interval.variation(samples["ratio"]),
            "pairs": len(samples["ratio"]),
        },
        "medians": {key: statistics.median(samples[key]) for key in ("ours", "theirs", "bench") if key in samples},
        "samples": samples,
    }
    file = TOP / "benchmarks/results" / f"{document['date']}-versus-{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{name}: ours over theirs {document['ratio']['median']:.4f} ({low:.4f} to {high:.4f}): {file}")
    return high >= LEAST


if __name__ == "__main__":
    cheap = [record(name, os.environ.get("TARGET", "debian-12")) for name in sys.argv[1:] or COMMANDS]
    sys.exit(0 if all(cheap) else 1)
