"""Hold packages, so that no upgrade replaces them.

Not pkg.held: under test=True it returns True even if the hold is gone, and it sets the hold of a library, which dpkg
lists with its architecture (libcuda1:amd64), in every run.
"""

from vault_cube import process
from vault_cube.errors import VaultCubeError, shown


def packages(name, packages):
    """
    Ensure that apt neither upgrades nor removes packages.

    name
        any text
    packages
        list of names

    .. code-block:: yaml

        the kernel is held:
          held.packages:
            - packages: [linux-image-cloud-amd64]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{', '.join(packages)}: held"}
    try:
        free = sorted(set(packages) - _held(packages))
        if not free:
            return ret
        ret["changes"] = {package: {"old": "not held", "new": "held"} for package in free}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{', '.join(free)} would be held"}
        process.run(["apt-mark", "hold", *free])
        remaining = sorted(set(packages) - _held(packages))
    except VaultCubeError as err:
        return {**ret, "result": False, "changes": {}, "comment": shown(err)}
    if remaining:
        comment = f"{', '.join(remaining)}: not held after apt-mark hold: install the package"
        return {**ret, "result": False, "changes": {}, "comment": comment}
    return ret


def _held(packages):
    """Return which of these packages are on hold in all their architectures."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Want}\\n", *packages]
    lines = [line.split() for line in process.run(query, ok=(0, 1)).stdout.splitlines()]
    return {package for package, want in lines if want == "hold"} - {
        package for package, want in lines if want != "hold"
    }
