"""The golden image: its stages, one function each, and what one asks about it.

They work in the checkout that this module comes from, as root. `make image` runs them in order through Packer.
"""

import functools
from pathlib import Path

from salt.exceptions import CommandExecutionError

__func_alias__ = {"lock_": "lock"}


def __virtual__():
    checkout = __opts__.get("vault_cube", {}).get("checkout")
    if checkout:
        return False, "image.* builds images: run it from a checkout, not on a box"
    return True


def _spoken(function):
    """Turn the package's errors into Salt's: one line for the person, exit code 1."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        from vault_cube.errors import VaultCubeError

        try:
            return function(*args, **kwargs)
        except VaultCubeError as err:
            raise CommandExecutionError(str(err)) from None
        except OSError as err:
            where = f"{err.filename}: " if err.filename else ""
            raise CommandExecutionError(f"{where}{err.strerror or err}") from None

    return call


def _space(target=None, locked=False):
    """The workspace of a target: this checkout, its pillar rendered for the target and checked."""
    from vault_cube.image.workspace import Workspace
    from vault_cube.settings import PillarError, check

    target = target or __opts__["vault_cube"]["target"]
    checkout = Path(__opts__["config_dir"]).resolve().parent
    pillar = _pillar(target, checkout)
    try:
        settings = check(pillar)
    except PillarError as err:
        raise CommandExecutionError(str(err)) from None
    return Workspace(checkout, settings, pillar, locked=bool(locked))


def _pillar(target, checkout):
    from salt.pillar import get_pillar

    if not (checkout / f"pillar/targets/{target}.sls").is_file():
        known = ", ".join(sorted(file.stem for file in (checkout / "pillar/targets").glob("*.sls")))
        raise CommandExecutionError(f"{target}: no such target; pillar/targets/ has {known}")
    opts = dict(__opts__, vault_cube=dict(__opts__["vault_cube"], target=target))
    pillar = get_pillar(opts, dict(__grains__), opts["id"], None).compile_pillar()
    if pillar.get("_errors"):
        raise CommandExecutionError("\n".join(pillar["_errors"]))
    return dict(pillar)


@_spoken
def lock_(target=None):
    """
    Resolve all packages anew and write locks/; returns what moved, a line each.

    target
        a name in pillar/targets/; the default is conf/minion's

    CLI Example:

    .. code-block:: bash

        salt-call image.lock target=debian-13
    """
    from vault_cube.image import locks

    return locks.make(_space(target))


@_spoken
def build(target=None, locked=False):
    """
    Make whatever of the image is missing: fetch, tools, root, layers, disk. Returns the image's manifest.

    locked
        what the lock names and nobody serves any more is an error

    CLI Example:

    .. code-block:: bash

        salt-call image.build target=debian-12 locked=True
    """
    from vault_cube.image import build as recipe

    return recipe.build(_space(target, locked))
