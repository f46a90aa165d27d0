"""What to do about a GPU driver that does not come up."""

import os
from pathlib import Path

from vault_cube.box import fallback as drivers


def fallback(test=False):
    """
    Try the drivers that the pillar names in driver:fallbacks until one comes up; a driver that works is left alone.

    Exit code 0 when a driver works. Nothing is rebooted.

    test
        tell what would be tried, and change nothing

    Returns good, branch, steps (does, command, good, said) and next, what a person does then.

    CLI Example:

    .. code-block:: bash

        salt-call --local driver.fallback test=True
    """
    if not test and (os.geteuid() != 0 or not Path("/run/systemd/system").is_dir()):
        __context__["retcode"] = 1
        return "driver.fallback changes a running box: call it there, as root"
    found = drivers.fallback(__pillar__["driver"], dry=test)
    __context__["retcode"] = int(not found["good"])
    return found
