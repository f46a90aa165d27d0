"""Python environments made by uv from a hashed lock; Salt's own pip states know neither uv nor a clean test run."""

from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.python_env import environments


def environment(name, lock, python="/usr/bin/python3", share_with=None, index=None, extra_indexes=None, cache=None):  # noqa: PLR0917 Salt binds no keyword-only arguments
    """
    Ensure that an environment is exactly what its lock says: nothing missing, altered or beside it.

    name
        the environment's folder, at the path where it is used
    lock
        a lock with hashes, `locks/<target>/python-<name>.lock`
    python
        the system's interpreter that it runs on
    share_with
        folders of other environments; identical files become hard links
    index, extra_indexes
        Python indexes for a box with a network; a build sets UV_OFFLINE and UV_FIND_LINKS and asks none
    cache
        a folder beside the environment that keeps what uv unpacks, for the next one with the same packages; whoever
        names it removes it (`file.absent`). Without it nothing is kept

    .. code-block:: yaml

        pytorch has its environment:
          uv.environment:
            - name: /opt/vault-cube/envs/pytorch
            - lock: /opt/vault-cube/checkout/locks/debian-12/python-pytorch.lock
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is what its lock says"}
    folder, lock = Path(name), Path(lock)
    own = ["--index-url", index] if index else []
    extra = [part for place in extra_indexes or [] for part in ("--extra-index-url", place)]
    # a further index that cannot be reached matters only when the first lacks something
    indexes = [own, [*own, *extra]] if extra else [own]
    try:
        found = environments.compare(folder, lock, Path(python))
        if not found:
            return ret
        ret["changes"] = _told(found)
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{name} would be brought to {lock}"}
        others = [Path(other) for other in share_with or []]
        made = environments.make(
            folder, lock, Path(python), share_with=others, indexes=indexes, cache=Path(cache) if cache else None
        )
    except VaultCubeError as err:
        return {**ret, "result": False, "changes": {}, "comment": str(err)}
    except OSError as err:
        return {**ret, "result": False, "changes": {}, "comment": f"{err.filename or name}: {err.strerror}"}
    ret["changes"]["made"] = made
    return {**ret, "comment": f"{name} was brought to {lock}"}


def _told(found):
    """Findings as Salt's changes; long lists are cut, their length is told."""
    changes = {"reason": found.reason} if found.reason else {}
    for key in ("missing", "altered", "strays"):
        files = getattr(found, key)
        if files:
            changes[key] = {"files": len(files), "first": files[:5]}
    if found.packages:
        changes["packages"] = {
            package: {"old": old or "", "new": new or ""} for package, (old, new) in found.packages.items()
        }
    return changes
