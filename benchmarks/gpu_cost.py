"""What asking the GPUs costs, in milliseconds, over the fake NVML of the tests or this machine's driver. Run by the
checkout's own Python.

    .venv/bin/python benchmarks/gpu_cost.py [--repeats 15] [--own]

Each sample is a process of its own that has loaded what Salt's loader has loaded before it comes to a grain, and then
times one call, imports included. Wall time, and the processor's time of the caller and its child: on a busy machine
the second is the one to read. A real driver adds NVML's own time, most of it for opening: `--own` measures it, and
what came from the fake says `simulated`. Prints one JSON document.
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
"""name → (what is called, with the fake, milliseconds that it may take)"""


# as in conf/common.conf: no name is looked up, no bus is listed
SALTS_GRAINS = {"enable_fqdns_grains": False, "enable_gpu_grains": False}


class Used:
    """Seconds that its bodies took together: wall, and the processor's of this process and its ended children."""

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
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in both)


def one(what: str) -> None:
    """Time one call in this process, and print it."""
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
        # what Salt does between loading a grain and asking for it
        salt.loader.grains(opts)
        with used:
            found = gpu.gpu()["gpu"]
    else:
        with used, tempfile.TemporaryDirectory() as cache:
            from vault_cube.gpu import verbs

            options = {"load": False, "window_s": None, "cache": Path(cache)} if what == "health" else {}
            found, _ = getattr(verbs, what)(pillar, **options)
    said = {"wall_ms": used.wall * 1000, "cpu_ms": used.cpu * 1000, "simulated": found.get("simulated", False)}
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
    parser.add_argument("--own", action="store_true", help="ask this machine's own GPUs")
    parser.add_argument("--one", choices=("grain", "health", "detect"))
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one)
        return
    from fake_nvml import FakeNvml, compile_library

    from vault_cube.bench.run.hardware import open_hardware
    from vault_cube.bench.run.machine import describe

    # on a box the byte code is there
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = {}
    if chosen.own:
        for name, (what, with_fake, limit) in CASES.items():
            if with_fake:
                own = name.replace("four GPUs", "this machine's own")
                found[own] = {"limit_ms": limit, **measured(what, environment, chosen.repeats)}
        with open_hardware(10) as own_gpus:
            machine = describe(own_gpus.gpus, own_gpus.driver, own_gpus.simulated, None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            library = compile_library(folder)
            if library is None:
                sys.exit("gpu_cost: it needs a C compiler (cc) for the fake NVML")
            fake = FakeNvml(Path(folder) / "state", library)
            for name, (what, with_fake, limit) in CASES.items():
                print(f"  {name} …", file=sys.stderr)
                more = fake.environment if with_fake else {}
                found[name] = {"limit_ms": limit, **measured(what, environment | more, chosen.repeats)}
        machine = describe([], None, True, None)
    told = machine.model_dump(mode="json", exclude={"image"})
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": told, "cases": found}, indent=1))


if __name__ == "__main__":
    main()
