"""Install the box's copy of the checkout, with the states, pillar and modules that repair the box."""

import filecmp
from pathlib import Path

from vault_cube.carried import carried, mode, sources
from vault_cube.errors import VaultCubeError, shown


def installed(name, source, target):
    """
    Ensure that a folder contains the part of the checkout that a box of this target needs, and nothing else.

    Does nothing on a box where Salt runs from that folder. An existing pillar/local.sls belongs to the box's owner and
    is kept.

    name
        folder on the box
    source
        checkout that Salt runs from
    target
        name of the target; pillar files and locks of other targets are left out

    .. code-block:: yaml

        box carries its own states:
          checkout.installed:
            - name: /opt/vault-cube/checkout
            - source: /run/vault-cube/checkout
            - target: debian-12
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is up to date"}
    origin, copy = Path(source).resolve(), Path(name)
    if origin == copy.resolve():
        return {**ret, "comment": f"Salt runs from {name}; nothing to copy"}
    try:
        wanted = {Path(path): file for path, file in carried(origin, target).items()}
        present = {file.relative_to(copy) for file in sources(copy)}
    except VaultCubeError as err:
        return {**ret, "result": False, "comment": shown(err)}
    keep = {Path("pillar/local.sls")}
    copied = sorted(str(path) for path, file in wanted.items() if not _same(file, copy / path))
    removed = sorted(str(path) for path in present - set(wanted) - keep)
    if not copied and not removed:
        return ret
    ret["changes"] = {key: value for key, value in (("copied", copied), ("removed", removed)) if value}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{len(copied)} file(s) would be copied, {len(removed)} removed"}
    try:
        for path in removed:
            (copy / path).unlink()
        for path in copied:
            file = copy / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((origin / path).read_bytes())
            file.chmod(mode(origin / path))
    except OSError as err:
        return {**ret, "result": False, "comment": f"{err.filename}: {err.strerror}"}
    return {**ret, "comment": f"{len(copied)} file(s) copied, {len(removed)} removed"}


def _same(origin, copy):
    return copy.is_file() and filecmp.cmp(origin, copy, shallow=False) and copy.stat().st_mode & 0o777 == mode(origin)
