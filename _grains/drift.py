"""The grain `drift`: the result of the last `drift.report`, and its age."""

import json
import time
from pathlib import Path


def drift():
    """
    Return drifted, counts per class, mode and `age_s`, their age in seconds; no grain before the first `drift.report`
    of the whole box, or if this user may not read it. Never raises.

    CLI Example:

    .. code-block:: bash

        salt-call --local grains.item drift
        salt -G 'drift:drifted:True' test.ping
    """
    # drift.report writes it there: the pillar is compiled after the grains
    try:
        result = json.loads(Path("/var/lib/vault-cube/drift/last.json").read_text())
        return {"drift": {**result, "age_s": max(0, int(time.time() - result.pop("at")))}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
