"""Run one command of vault_cube.bench as Salt's module does, and print its result or its error as JSON."""

import json
import os
import sys
from pathlib import Path

from vault_cube.bench import stress, verbs
from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import open_hardware
from vault_cube.errors import VaultCubeError
from vault_cube.gpu.read.host import Host
from vault_cube.settings import check


def main(verb, pillar, workloads, arguments):
    settings = check(json.loads(Path(pillar).read_text()))
    root = Host(Path(os.environ.get("BENCH_ROOT", "/")))
    with open_hardware(float(os.environ.get("BENCH_ANSWER_S", "10")), root) as hardware:
        if verb == "benchmark":
            cache = Path(pillar).parent / "cache"
            result = runner.benchmark(
                settings, hardware, verbs.say, quick=True, cache=cache, workloads=Path(workloads), **arguments
            )
            return result.model_dump(mode="json")
        if duration := arguments.get("duration"):
            stress.start(settings, duration)
        return stress.go_on(settings, hardware, verbs.say, Path(workloads))


try:
    print(json.dumps(main(*sys.argv[1:4], json.loads(sys.argv[4]))))
except VaultCubeError as err:
    print(json.dumps({"error": str(err)}))
    sys.exit(1)
