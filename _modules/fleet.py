"""A box's key in a fleet, and the releases of a fleet's master."""

from pathlib import Path

from salt.exceptions import CommandExecutionError

from vault_cube.errors import VaultCubeError, shown
from vault_cube.fleet import releases


def fingerprint(key="/etc/salt/pki/fleet/minion.pub"):
    """
    Show the fingerprint of this box's key, which its master needs to accept the box (runner ``fleet.accept``).

    key
        the public key; the box makes it when its fleet's minion starts for the first time

    CLI Example:

    .. code-block:: bash

        salt-call --local fleet.fingerprint
    """
    try:
        return releases.fingerprint(Path(key).read_text())
    except OSError as err:
        raise CommandExecutionError(
            f"{key}: {err.strerror}: set fleet:master and fleet:master_key, and start vault-cube-fleet.service"
        ) from err


def release(commit="HEAD", folder="/var/lib/vault-cube/fleet/files/releases", sign_key=None):
    """
    Make the release of a commit on the fleet's master, for the runner ``fleet.rollout``.

    commit
        a commit or a tag of this checkout

    folder
        the master's folder of releases

    sign_key
        a private ssh key, for boxes with pillar ``fleet:signers``; better sign on another machine, and copy the file

    Returns commit and file.

    CLI Example:

    .. code-block:: bash

        salt-call fleet.release v1.1.0
    """
    try:
        full, file = releases.make(
            Path(__file__).resolve().parents[1], str(commit), Path(folder), sign_key and Path(sign_key)
        )
    except VaultCubeError as err:
        raise CommandExecutionError(shown(err)) from err
    return {"commit": full, "file": str(file)}
