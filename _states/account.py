"""Keep accounts without a password, and in use."""

from vault_cube.errors import VaultCubeError, shown
from vault_cube.repair import accounts


def without_password(name):
    """
    Ensure that an account has no password that anybody could know, and that it does not expire.

    user.present cannot do this: it would change the date in the shadow file of every image.

    name
        name of the account

    .. code-block:: yaml

        root has no password:
          account.without_password:
            - name: root
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} has no password and does not expire"}
    try:
        wrong = accounts.problems(name)
        if wrong is None and __opts__["test"]:
            return {**ret, "result": None, "comment": f"{name} does not exist yet"}
        if not wrong:
            return ret if wrong == {} else {**ret, "result": False, "comment": f"{name} has no line in /etc/shadow"}
        ret["changes"] = {what: {"old": value, "new": ""} for what, value in wrong.items()}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{', '.join(wrong)} of {name} would be removed"}
        accounts.repair(name, wrong)
    except VaultCubeError as err:
        return {**ret, "result": False, "changes": {}, "comment": shown(err)}
    return {**ret, "comment": f"{', '.join(wrong)} of {name} removed"}
