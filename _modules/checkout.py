"""The release on a box: which one it is, another one in its place, and the way back. A fleet's rollout uses these."""

from pathlib import Path

from salt.exceptions import CommandExecutionError

from vault_cube.errors import VaultCubeError, shown
from vault_cube.fleet import release
from vault_cube.settings import PillarError, of_minion

__func_alias__ = {"apply_": "apply"}


def version():
    """
    Show which release the box has.

    Returns commit (or ``image``), applied, accepted (whether a rollout's checks have passed here), previous.

    CLI Example:

    .. code-block:: bash

        salt-call --local checkout.version
    """
    return _run(release.version)


def folder():
    """
    Return the folder of the checkout that Salt runs from.

    CLI Example:

    .. code-block:: bash

        salt-call checkout.folder
    """
    return str(Path(__file__).resolve().parents[1])


def update(commit, sha256, file):
    """
    Install a release in place of the box's checkout, and keep the former one. Nothing is applied.

    The box's own pillar/local.sls is kept. Does nothing if the box has this release. If pillar ``fleet:signers`` has
    keys, one of them has to have signed the archive; the signature is beside it, in FILE.sig.

    commit
        the release's commit, 40 hexadecimal digits

    sha256
        digest of the archive

    file
        the archive; a fleet's box fetches it from the master

    Returns the fields of ``checkout.version``, and changed.

    CLI Example:

    .. code-block:: bash

        salt-call --local checkout.update COMMIT SHA256 /tmp/release.tar
    """
    target = __opts__.get("vault_cube", {}).get("target", "")
    try:
        signers = of_minion(__pillar__).fleet.signers
    except PillarError as err:
        raise CommandExecutionError(str(err)) from err
    return _run(release.update, target, str(commit), str(sha256), Path(file), signers=signers)


def apply_():
    """
    Apply the release's states, unless they were applied without a failure before.

    Returns the fields of ``checkout.version``, changed (whether anything changed), and failed: a line per failed state.
    Exit code 2 if a state failed, 1 if the states cannot be rendered.

    CLI Example:

    .. code-block:: bash

        salt-call --local checkout.apply
    """
    before = _run(release.version)
    if before["applied"]:
        return {**before, "changed": False, "failed": []}
    # the shell's salt-call asks the guard before state.apply; a function that applies states has to ask it itself
    _run(release.guard)
    ran = __salt__["state.apply"]()
    if not isinstance(ran, dict):
        __context__["retcode"] = 1
        return "cannot apply the states: " + "; ".join(str(line).strip() for line in ran)
    failed = [
        f"{state.get('__id__', '')}: {str(state['comment']).strip()[:200]}"
        for state in ran.values()
        if state["result"] is False
    ]
    changed = any(state["changes"] for state in ran.values())
    __context__["retcode"] = 2 if failed else 0
    after = before if failed else _run(release.record, applied=True)
    return {**after, "changed": changed, "failed": failed}


def accept():
    """
    Record that the checks of a rollout passed with this release.

    Returns the fields of ``checkout.version``.

    CLI Example:

    .. code-block:: bash

        salt-call --local checkout.accept
    """
    return _run(release.record, accepted=True)


def rollback():
    """
    Put the previous release in place of this one. Nothing is applied.

    Returns the fields of ``checkout.version``.

    CLI Example:

    .. code-block:: bash

        salt-call --local checkout.rollback
        salt-call --local checkout.apply
    """
    return _run(release.rollback)


def _run(function, *args, **kwargs):
    """Call a function of vault_cube.fleet.release on this box's folders; an error is one line."""
    place = release.Place(Path(__opts__["file_roots"]["base"][0]).parent)
    try:
        return function(place, *args, **kwargs)
    except VaultCubeError as err:
        raise CommandExecutionError(shown(err)) from err
