"""What asking the GPUs costs, in milliseconds, over the fake NVML of the tests. Run by the checkout's own Python.

    .venv/bin/python benchmarks/gpu_cost.py [--repeats 15]

Each sample is a process of its own that has loaded what Salt's loader has loaded before it comes to a grain, and then
times one call, imports included. Wall time, and the processor's time of the caller and its child: on a busy machine
the second is the one to read. With a real driver NVML's own time is added, most of it for opening: it is not measured
here, and every number says `simulated`. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP), str(TOP / "tests/nvml")]

CASES = {
    "grain, four GPUs": ("grain", True, 50),
    "grain, no driver": ("grain", False, 5),
    "gpu.health, four GPUs": ("health", True, 150),
    "gpu.health, no driver": ("health", False, None),
    "gpu.detect, four GPUs": ("detect", True, None),
}
"""name → (what is called, with the fake, milliseconds that it may take)"""


def one(what: str) -> None:
    """Time one call in this process, and print it."""
    import resource

    import salt.config
    import salt.grains.core
    import salt.loader  # noqa: F401
    import yaml
    from salt.utils.dictupdate import merge

    files = ("box.sls", "targets/ubuntu-24.04.sls")
    parts = [yaml.safe_load((TOP / "pillar" / name).read_text()) for name in files]
    pillar = merge(*parts, strategy="recurse", merge_lists=False)
    pillar["runtime"]["provider"] = "none"
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    started = time.perf_counter()
    if what == "grain":
        sys.path.append(str(TOP / "_grains"))
        import gpu

        found = gpu.gpu()["gpu"]
    else:
        from vault_cube.gpu import verbs

        with tempfile.TemporaryDirectory() as cache:
            options = {"load": False, "window_s": None, "cache": Path(cache)} if what == "health" else {}
            found, _ = getattr(verbs, what)(pillar, **options)
    wall = time.perf_counter() - started
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))
    said = {"wall_ms": wall * 1000, "cpu_ms": used * 1000, "simulated": found.get("simulated", False)}
    print(json.dumps(said))


def measured(what: str, environment: dict[str, str], repeats: int) -> dict[str, object]:
    samples = []
    for _ in range(repeats + 1):
        ran = subprocess.run(
            [sys.executable, __file__, "--one", what], env=environment, capture_output=True, text=True, check=True
        )
        samples.append(json.loads(ran.stdout))
    samples = samples[1:]  # the first fills the page cache

    def spread(key: str) -> dict[str, object]:
        values = sorted(round(sample[key], 2) for sample in samples)
        return {"median": statistics.median(values), "least": values[0], "most": values[-1], "samples": values}

    return {"wall_ms": spread("wall_ms"), "cpu_ms": spread("cpu_ms"), "simulated": samples[0]["simulated"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--one", choices=("grain", "health", "detect"))
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one)
        return
    from fake_nvml import FakeNvml, compile_library

    from vault_cube.bench.machine import describe

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        library = compile_library(folder)
        if library is None:
            sys.exit("gpu_cost: it needs a C compiler (cc) for the fake NVML")
        fake = FakeNvml(Path(folder) / "state", library)
        for name, (what, with_fake, limit) in CASES.items():
            print(f"  {name} …", file=sys.stderr)
            environment = os.environ | (fake.environment if with_fake else {})
            # on a box the byte code is there
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            found[name] = {"limit_ms": limit, **measured(what, environment, chosen.repeats)}
    machine = describe([], None, True, None).model_dump(mode="json", exclude={"gpus", "image", "driver"})
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": machine, "cases": found}, indent=1))


if __name__ == "__main__":
    main()
