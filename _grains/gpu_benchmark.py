"""The grain `gpu_benchmark`: the result of the last `gpu.benchmark`, and its age."""

import calendar
import json
import time
from pathlib import Path


def gpu_benchmark():
    """
    Return the summary of the last result with `age_s`, its age in seconds; no grain before the first benchmark. Never
    raises.

    CLI Example:

    .. code-block:: bash

        salt-call --local grains.item gpu_benchmark
    """
    # gpu.benchmark writes it to Salt's cache: its path cannot be in the pillar, which is compiled after the grains
    try:
        result = json.loads((Path(__opts__["cachedir"]) / "gpu_benchmark.json").read_text())
        started = calendar.timegm(time.strptime(result["started"], "%Y-%m-%dT%H:%M:%SZ"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"gpu_benchmark": {**result, "age_s": max(0, int(time.time() - started))}}
