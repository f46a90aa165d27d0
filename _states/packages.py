"""Install Debian packages, also on a box without a network and after an interrupted installation.

Salt's pkg.installed installs all or nothing, and it can neither finish an interrupted installation nor use a folder of
packages.
"""

from pathlib import Path

from vault_cube.errors import VaultCubeError, shown
from vault_cube.repair import packages


def installed(name, pkgs, supplies=None, lock=None):
    """
    Ensure that packages are installed, and that no installation is unfinished.

    Each package that can be had is installed, even if another cannot.

    name
        what the packages are for; not used
    pkgs
        names of packages
    supplies
        folder with packages and wheels for a box without a network (`image.supplies`); used for what the box's
        archives do not give. It need not exist
    lock
        the target's apt.lock; only packages that it names are taken from the supplies

    .. code-block:: yaml

        editors are installed:
          packages.installed:
            - pkgs: [nano]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{len(pkgs)} packages are installed"}
    try:
        before = packages.state()
        missing = [package for package in pkgs if package not in before.installed]
        if not missing and not before.unfinished:
            return ret
        ret["changes"] = {package: {"old": "", "new": "installed"} for package in missing}
        ret["changes"] |= {package: {"old": "unfinished", "new": "installed"} for package in before.unfinished}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{', '.join(ret['changes'])} would be installed"}
        problem = packages.finish(before.damaged, _path(supplies), _path(lock)) if before.unfinished else ""
        missing = [package for package in pkgs if package not in packages.state().installed]
        if missing:
            missing, problem = packages.install(missing, _path(supplies), _path(lock))
        after = packages.state()
    except (VaultCubeError, OSError) as err:
        return {**ret, "result": False, "changes": {}, "comment": shown(err)}
    ret["changes"] = {
        package: change
        for package, change in ret["changes"].items()
        if package not in missing and package not in after.unfinished
    }
    if missing or after.unfinished:
        return {**ret, "result": False, "comment": _remedy(missing, after, problem, supplies)}
    return {**ret, "comment": f"now installed: {', '.join(ret['changes'])}"}


def _path(text):
    return Path(text) if text else None


def _remedy(missing, after, problem, supplies):
    problem = problem or "no error message"
    place = f", or put supplies for a box without a network into {supplies} (`image.supplies`)" if supplies else ""
    again = f"connect the box to a network{place}, then `sudo salt-call --local state.apply`"
    if missing:
        return f"not installed: {', '.join(missing)}: {problem}: {again}"
    if after.damaged:
        return f"interrupted while it was unpacked: {', '.join(after.damaged)}: {problem}: {again}"
    return f"not fully installed: {', '.join(after.unfinished)}: {problem}: see `sudo dpkg --configure --pending`"
