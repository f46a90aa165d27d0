"""The box's own copy of the checkout: the states, pillar and modules that it repairs itself with."""

import filecmp
from pathlib import Path

from vault_cube.carried import carried, mode, sources


def installed(name, source, target):
    """
    Ensure that a folder holds what a box of this target needs of the checkout, and nothing else.

    On a box that runs from that folder there is nothing to copy, and nothing is done. A pillar/local.sls that is
    there already belongs to the box's owner and stays.

    name
        the folder on the box
    source
        the checkout that Salt runs from
    target
        other targets' pillar files and locks are left out

    .. code-block:: yaml

        box carries its own states:
          checkout.installed:
            - name: /opt/vault-cube/checkout
            - source: /run/vault-cube/checkout
            - target: debian-12
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is the checkout"}
    here, there = Path(source).resolve(), Path(name)
    if here == there.resolve():
        return {**ret, "comment": f"{name} is what Salt runs from"}
    wanted = {Path(place): file for place, file in carried(here, target).items()}
    present = {file.relative_to(there) for file in sources(there)}
    keep = {Path("pillar/local.sls")}
    copied = sorted(str(file) for file, origin in wanted.items() if not _same(origin, there / file))
    removed = sorted(str(file) for file in present - set(wanted) - keep)
    if not copied and not removed:
        return ret
    ret["changes"] = {key: value for key, value in (("copied", copied), ("removed", removed)) if value}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{len(copied)} file(s) would be copied, {len(removed)} removed"}
    try:
        for file in removed:
            (there / file).unlink()
        for file in copied:
            place = there / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((here / file).read_bytes())
            place.chmod(mode(here / file))
    except OSError as err:
        return {**ret, "result": False, "comment": f"{err.filename}: {err.strerror}"}
    return {**ret, "comment": f"{len(copied)} file(s) copied, {len(removed)} removed"}


def _same(origin, copy):
    return copy.is_file() and filecmp.cmp(origin, copy, shallow=False) and copy.stat().st_mode & 0o777 == mode(origin)
