"""Measure the cost of reading the GPUs, in milliseconds, with the fake NVML of the tests or this machine's driver.

Run it with the checkout's Python:

    .venv/bin/python benchmarks/gpu_cost.py [--repeats 15] [--own]

Each sample is a new process that imports the modules that Salt's loader has imported before it runs a grain, and then
times one call, imports included. It measures wall time, and CPU time of the caller and its child; on a busy machine
only the CPU time is meaningful. A real driver adds the time of NVML itself, most of it for opening it: `--own` measures
that. Results from the fake have `simulated: true`. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
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
"""Name → (function, whether the fake NVML is present, limit in milliseconds or None)."""


# as in conf/common.conf: no DNS lookups, no listing of PCI devices
SALTS_GRAINS = {"enable_fqdns_grains": False, "enable_gpu_grains": False}


class Used:
    """Sums the seconds of its `with` bodies: wall time, and CPU time of this process and its finished children."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._before = self._now()

    def __exit__(self, *_: object) -> None:
        wall, cpu = (after - before for after, before in zip(self._now(), self._before, strict=True))
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu

    @staticmethod
    def _now() -> tuple[float, float]:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in both)


def time_one_call(what: str) -> None:
    """Time one call in this process, and print it as JSON. what: grain, health or detect."""
    import salt.config
    import salt.grains.core
    import salt.loader
    import yaml
    from salt.utils.dictupdate import merge

    files = ("box.sls", "targets/ubuntu-24.04.sls")
    parts = [yaml.safe_load((TOP / "pillar" / name).read_text()) for name in files]
    pillar = merge(*parts, strategy="recurse", merge_lists=False)
    pillar["runtime"]["provider"] = "none"
    opts = salt.config.apply_minion_config(dict(SALTS_GRAINS))
    used = Used()
    if what == "grain":
        sys.path.append(str(TOP / "_grains"))
        with used:
            import gpu
        # Salt does this between loading a grain and calling it
        salt.loader.grains(opts)
        with used:
            reading = gpu.gpu()["gpu"]
    else:
        with used, tempfile.TemporaryDirectory() as cache:
            from vault_cube.gpu import verbs

            options = {"load": False, "window_s": None, "cache": Path(cache)} if what == "health" else {}
            reading, _ = getattr(verbs, what)(pillar, **options)
    sample = {"wall_ms": used.wall * 1000, "cpu_ms": used.cpu * 1000, "simulated": reading.get("simulated", False)}
    print(json.dumps(sample))


def measured(what: str, environment: dict[str, str], repeats: int) -> dict[str, object]:
    """Time a call in `repeats` new processes; return the statistics of wall and CPU time."""
    samples = []
    for _ in range(repeats + 1):
        ran = subprocess.run(
            [sys.executable, __file__, "--one", what], env=environment, capture_output=True, text=True, check=True
        )
        samples.append(json.loads(ran.stdout))
    samples = samples[1:]  # the first process only fills the page cache

    def spread(key: str) -> dict[str, object]:
        values = sorted(round(sample[key], 2) for sample in samples)
        return {"median": statistics.median(values), "least": values[0], "most": values[-1], "samples": values}

    return {"wall_ms": spread("wall_ms"), "cpu_ms": spread("cpu_ms"), "simulated": samples[0]["simulated"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--own", action="store_true", help="measure this machine's own GPUs")
    parser.add_argument("--one", choices=("grain", "health", "detect"))
    chosen = parser.parse_args()
    if chosen.one:
        time_one_call(chosen.one)
        return
    from fake_nvml import FakeNvml, compile_library

    from vault_cube.bench.run.hardware import open_hardware
    from vault_cube.bench.run.machine import describe

    # on a box, modules have byte code, so allow Python to write it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    cases = {}
    if chosen.own:
        for name, (what, with_fake, limit) in CASES.items():
            if with_fake:
                own = name.replace("four GPUs", "this machine's own")
                cases[own] = {"limit_ms": limit, **measured(what, environment, chosen.repeats)}
        with open_hardware(10) as own_gpus:
            machine = describe(own_gpus.gpus, own_gpus.driver, own_gpus.simulated, None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            library = compile_library(folder)
            if library is None:
                sys.exit("gpu_cost: the fake NVML needs a C compiler (cc); install one")
            fake = FakeNvml(Path(folder) / "state", library)
            for name, (what, with_fake, limit) in CASES.items():
                print(f"  {name} …", file=sys.stderr)
                more = fake.environment if with_fake else {}
                cases[name] = {"limit_ms": limit, **measured(what, environment | more, chosen.repeats)}
        machine = describe([], None, True, None)
    described = machine.model_dump(mode="json", exclude={"image"})
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": described, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
