"""The box's own copy of the checkout: the states, pillar and modules that it repairs itself with."""

import filecmp
from pathlib import Path

FOLDERS = (
    "conf",
    "salt",
    "pillar",
    "locks",
    "_modules",
    "_states",
    "_grains",
    "_beacons",
    "_pillar",
    "vault_cube",
    "benchmarks",
    "docs/runbooks",
)
FILES = ("Saltfile", "pyproject.toml")


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
    wanted = {file.relative_to(here): file for file in _carried(here, target)}
    present = {file.relative_to(there) for file in _sources(there)}
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
            place.chmod(_mode(here / file))
    except OSError as err:
        return {**ret, "result": False, "comment": f"{err.filename}: {err.strerror}"}
    return {**ret, "comment": f"{len(copied)} file(s) copied, {len(removed)} removed"}


def _carried(checkout, target):
    """The files of the checkout that a box of this target needs."""
    files = [file for folder in FOLDERS for file in _sources(checkout / folder)]
    files += [checkout / name for name in FILES if (checkout / name).is_file()]
    included = {target, *_includes(checkout / "pillar/targets" / f"{target}.sls")}
    for file in files:
        parts = file.relative_to(checkout).parts
        if parts[:2] == ("pillar", "targets") and file.stem not in included:
            continue
        if parts[0] == "locks" and (len(parts) < 3 or parts[1] != target or not file.name.startswith("python-")):
            continue
        yield file


def _includes(file):
    """The targets that a target's file builds upon."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line.strip().removeprefix("- targets.") for line in lines if line.strip().startswith("- targets.")]


def _sources(folder):
    if not folder.is_dir():
        return []
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return [file for file in files if not file.name.endswith((".pyc", "~", ".swp"))]


def _same(origin, copy):
    return copy.is_file() and filecmp.cmp(origin, copy, shallow=False) and copy.stat().st_mode & 0o777 == _mode(origin)


def _mode(file):
    if file.name == "local.sls":
        return 0o600  # may hold what only the owner should read
    return 0o755 if file.stat().st_mode & 0o100 else 0o644
