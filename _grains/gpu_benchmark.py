"""The grain `gpu_benchmark`: what the last `gpu.benchmark` found, and how old that is."""

import calendar
import json
import time
from pathlib import Path


def gpu_benchmark():
    """
    The last result's summary with `age_s`, its age in seconds; no grain where nothing was measured. Never raises.

    CLI Example:

    .. code-block:: bash

        salt-call --local grains.item gpu_benchmark
    """
    # gpu.benchmark leaves it in Salt's cache: grains are made before there is a pillar to ask for a path
    try:
        found = json.loads((Path(__opts__["cachedir"]) / "gpu_benchmark.json").read_text())
        measured = calendar.timegm(time.strptime(found["started"], "%Y-%m-%dT%H:%M:%SZ"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"gpu_benchmark": {**found, "age_s": max(0, int(time.time() - measured))}}
