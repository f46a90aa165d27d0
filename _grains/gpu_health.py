"""The grain `gpu_health`: the result of the last `gpu.health`, and its age."""

import calendar
import json
import time
from pathlib import Path


def gpu_health():
    """
    Return the last verdict, counts and problems, with `age_s`, their age in seconds; no grain before the first
    `gpu.health`. Never raises.

    CLI Example:

    .. code-block:: bash

        salt-call --local grains.item gpu_health
        salt -G 'gpu_health:verdict:fault' test.ping
    """
    # gpu.health writes it to Salt's cache: its path cannot be in the pillar, which is compiled after the grains
    try:
        result = json.loads((Path(__opts__["cachedir"]) / "gpu_health.json").read_text())
        started = calendar.timegm(time.strptime(result["started"], "%Y-%m-%dT%H:%M:%SZ"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"gpu_health": {**result, "age_s": max(0, int(time.time() - started))}}
