"""Measure a fleet on one machine: times of commands over all boxes, memory of the master and of a box. Needs root.

    .venv/bin/python benchmarks/fleet.py [--boxes 25 50] [--runs 3]

Each box is a real salt-minion in namespaces of its own, with fake GPUs and the box's own checkout
(tests/integration/fleet/stack.py). All boxes share this machine's processors, so the times of commands that compute on
the boxes grow with their number here, and not in a real fleet. Memory is PSS: shared pages are divided among all that
use them. `master_cpu_s` is the processor time that a command cost the master, which does not depend on what the boxes
compute. Stops before a size for which the memory does not suffice. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / name) for name in ("tests", "tests/nvml", "tests/integration/fleet")]

COMMANDS = {
    "test.ping": ["test.ping"],
    "grains.items": ["grains.items"],
    "gpu.health": ["gpu.health"],
    "state.apply test=True": ["state.apply", "test=True"],
}
LIMIT_S = 1800
# each box: its minion, a salt-call while it computes, and its files
BOX_MIB = 190
SPARE_MIB = 2048
MASTER = "vault-cube-fleet-master"


def grow(fleet, count: int) -> float:
    """Add boxes until there are `count`. Returns the seconds until all answered.

    The first box joins as in real life; the others get its files, and their keys are accepted together.
    """
    from stack import until

    started = time.monotonic()
    for number in range(len(fleet.boxes) + 1, count + 1):
        name = f"b{number}"
        box = fleet.add(name, "4x5090")
        if number == 1:
            fleet.join(name)
            continue
        first = fleet.boxes["b1"]
        for path in ("/etc/salt/fleet", "/opt/vault-cube/fleet", "/etc/systemd/system/vault-cube-fleet.service"):
            box.path(path).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", first.path(path), box.path(path)], check=True)
        file = box.path("/etc/salt/fleet/minion")
        file.write_text(file.read_text().replace('id: "b1"', f'id: "{name}"'))
        fleet.start_minion(name)
    until(lambda: waiting_and_accepted(fleet) >= count, limit=1200)
    fleet.master.run("/usr/local/sbin/fleet-salt-key", "--accept-all", "--yes")
    # a box that connects after the request never answers it, and salt asks all boxes about it again and again
    until(lambda: connected(fleet) >= count, limit=1200)
    until(lambda: timed(fleet, ["test.ping"])[1] == count, limit=1200)
    return time.monotonic() - started


def waiting_and_accepted(fleet) -> int:
    keys = fleet.runner("fleet.keys") or {}
    return len(keys.get("accepted", [])) + len(keys.get("waiting", []))


def connected(fleet) -> int:
    """Return the number of boxes that wait for requests at the master."""
    return len(fleet.master.run("ss", "-Htn", "state", "established", "sport", "=", ":4505").stdout.splitlines())


def timed(fleet, words: list[str]) -> tuple[float, int]:
    """Run a command over all boxes. Returns seconds, and the number of boxes that answered."""
    started = time.monotonic()
    # all boxes compute on the same processors: with a shorter limit, salt asks 100 busy boxes again and again
    ran = fleet.master.run(
        "/usr/local/sbin/fleet-salt", "--static", "--out=json", "-t", "600", "*", *words, ok=False, timeout=LIMIT_S
    )
    seconds = time.monotonic() - started
    try:
        answers = json.loads(ran.stdout)
    except ValueError:
        return seconds, 0
    return seconds, sum(value not in (False, None) and "did not return" not in str(value) for value in answers.values())


def measure(fleet, count: int, runs: int) -> dict:
    """Return the times and the memory with `count` boxes."""
    joined_s = grow(fleet, count)
    times = {}
    for name, words in COMMANDS.items():
        repeats = runs if name == "test.ping" else 1
        before = fleet.master.processor_s(MASTER)
        samples = [timed(fleet, words) for _ in range(repeats)]
        used = (fleet.master.processor_s(MASTER) - before) / repeats
        seconds = [sample[0] for sample in samples]
        times[name] = {
            "median_s": round(statistics.median(seconds), 2),
            "answered": min(sample[1] for sample in samples),
            "master_cpu_s": round(used, 2),
        }
        print(f"{count} boxes: {name}: {times[name]}", file=sys.stderr, flush=True)
    minions = [box.memory_mib("vault-cube-fleet") for box in fleet.boxes.values()]
    return {
        "boxes": count,
        "joined_s": round(joined_s, 1),
        "commands": times,
        "memory_mib": {
            "a box's minion, median": round(statistics.median(minions), 1),
            "master": round(fleet.master.memory_mib(MASTER), 1),
            "salt-api": round(fleet.master.memory_mib("vault-cube-fleet-api"), 1),
            "nginx": round(fleet.master.memory_mib("vault-cube-fleet-tls"), 1),
        },
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def available_mib() -> int:
    """Return the memory that programs can still get, in MiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, nargs="+", default=[25, 50])
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    # a process in the background of a script ignores Ctrl-C; the boxes must end with this process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from fake_nvml import compile_library
    from stack import Fleet

    from vault_cube.bench.run.machine import describe

    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(compile_library(Path(folder)), {"answer_s": 30})
        try:
            results = []
            for count in chosen.boxes:
                needed = (count - len(fleet.boxes)) * BOX_MIB + SPARE_MIB
                if available_mib() < needed:
                    print(f"{count} boxes need {needed} MiB, and {available_mib()} are free", file=sys.stderr)
                    break
                results.append(measure(fleet, count, chosen.runs))
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
        finally:
            fleet.end()
    machine = describe([], None, True, None)
    print(
        json.dumps(
            {
                "date": time.strftime("%Y-%m-%d"),
                "machine": {key: getattr(machine, key) for key in ("processor", "cores", "memory_gib", "kernel")},
                "load_average_before": [round(value, 2) for value in before],
                "command": " ".join(["benchmarks/fleet.py", *sys.argv[1:]]),
                "results": results,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
