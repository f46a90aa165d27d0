"""The grain `gpu_health`: what the last `gpu.health` found, and how old that is."""

import calendar
import json
import time
from pathlib import Path


def gpu_health():
    """
    The last verdict, counts, what was bad, and `age_s`, its age in seconds; no grain before the first. Never raises.

    CLI Example:

    .. code-block:: bash

        salt-call --local grains.item gpu_health
        salt -G 'gpu_health:verdict:fault' test.ping
    """
    # gpu.health leaves it in Salt's cache: grains are made before there is a pillar to ask for a path
    try:
        found = json.loads((Path(__opts__["cachedir"]) / "gpu_health.json").read_text())
        looked = calendar.timegm(time.strptime(found["started"], "%Y-%m-%dT%H:%M:%SZ"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"gpu_health": {**found, "age_s": max(0, int(time.time() - looked))}}
