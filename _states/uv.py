"""Create Python environments with uv from a lock with hashes.

Salt's pip states do not support uv, and their test=True is not reliable.
"""

import hashlib
from pathlib import Path

from vault_cube.errors import VaultCubeError, shown
from vault_cube.python_env import environments
from vault_cube.python_env.fingerprint import Fingerprint


def environment(  # noqa: PLR0917 Salt binds no keyword-only arguments
    name, lock, python="/usr/bin/python3", share_with=None, index=None, extra_indexes=None, cache=None, supplies=None
):
    """
    Ensure that an environment matches its lock: no missing, altered or additional file or package.

    name
        folder of the environment, at the path where it is used
    lock
        lock with hashes, `locks/<target>/python-<name>.lock`
    python
        the system's Python interpreter, on which the environment is based
    share_with
        folders of other environments; identical files become hard links
    index, extra_indexes
        Python indexes for a box with a network; a build sets UV_OFFLINE and UV_FIND_LINKS instead
    cache
        folder beside the environment in which uv keeps unpacked wheels for the next environment; remove it afterwards
        with `file.absent`. Without this argument the wheels are not kept
    supplies
        folder with wheels for a box without a network, below `wheels/` (`image.supplies`); used first. It need not
        exist

    .. code-block:: yaml

        pytorch has its environment:
          uv.environment:
            - name: /opt/vault-cube/envs/pytorch
            - lock: /opt/vault-cube/checkout/locks/debian-12/python-pytorch.lock
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is up to date"}
    folder, lock = Path(name), Path(lock)
    first = ["--index-url", index] if index else []
    extra = [part for url in extra_indexes or [] for part in ("--extra-index-url", url)]
    # try the first index alone, so that an unreachable extra index matters only if the first lacks a package
    indexes = [first, [*first, *extra]] if extra else [first]
    wheels = Path(supplies) / "wheels" if supplies else None
    if wheels and wheels.is_dir():
        indexes.insert(0, ["--no-index", "--find-links", str(wheels)])
    try:
        fingerprint = _fingerprint(name)
        differences = environments.compare(folder, lock, Path(python), fingerprint)
        if not differences:
            return ret
        ret["changes"] = _changes(differences)
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{name} would be changed to match {lock}"}
        fingerprint.forget()
        others = [Path(other) for other in share_with or []]
        numbers = environments.make(
            folder,
            lock,
            Path(python),
            share_with=others,
            indexes=indexes,
            cache=Path(cache) if cache else None,
            differences=differences,
        )
    except environments.NotInstalled as err:
        place = f", or put supplies for a box without a network into {supplies} (`image.supplies`)" if supplies else ""
        remedy = f"connect the box to a network{place}, then `sudo salt-call --local state.apply`"
        return {**ret, "result": False, "changes": {}, "comment": f"{shown(err)}: {remedy}"}
    except VaultCubeError as err:
        return {**ret, "result": False, "changes": {}, "comment": shown(err)}
    except OSError as err:
        return {**ret, "result": False, "changes": {}, "comment": f"{err.filename or name}: {err.strerror}"}
    ret["changes"]["made"] = numbers
    return {**ret, "comment": f"{name} now matches {lock}"}


def _fingerprint(name):
    """Return an environment's fingerprint. The first call begins to list all environments of the run at once."""
    begun = __context__.setdefault("uv.fingerprints", {})
    for folder in [name, *(low["name"] for low in __lowstate__ if low["state"] == "uv")]:
        if folder not in begun:
            file = f"{Path(folder).name}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"
            begun[folder] = Fingerprint(Path(folder), Path(__opts__["cachedir"]) / "vault_cube_environments" / file)
    return begun[name]


def _changes(differences):
    """Convert differences to Salt's changes: of a list of files, its length and its first five."""
    changes = {"reason": differences.reason} if differences.reason else {}
    for key in ("missing", "altered", "strays"):
        files = getattr(differences, key)
        if files:
            changes[key] = {"files": len(files), "first": files[:5]}
    if differences.packages:
        changes["packages"] = {
            package: {"old": old or "", "new": new or ""} for package, (old, new) in differences.packages.items()
        }
    return changes
