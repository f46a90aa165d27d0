"""Create accounts with fixed ids, and keep accounts without a password and in use.

System accounts are created before a package creates them with other ids.

Not group.present and user.present with `unless`: to find out whether these have a function `mod_run_check`, Salt loads
all state modules and with them all execution modules, which takes 1 s in every run.
"""

import grp
import pwd

from vault_cube.errors import VaultCubeError, shown
from vault_cube.repair import accounts


def group(name, gid):
    """
    Ensure that a system group exists. A new group gets this id; an existing one keeps its own: files belong to it.

    name
        name of the group
    gid
        id of a new group

    .. code-block:: yaml

        group docker has its fixed id:
          account.group:
            - name: docker
            - gid: 994
    """
    try:
        present = grp.getgrnam(name)
    except KeyError:
        return __states__["group.present"](name, gid=gid, system=True)
    return {"name": name, "result": True, "changes": {}, "comment": f"group {name} has the id {present.gr_gid}"}


def user(name, uid, group, home):
    """
    Ensure that a system user exists that cannot log in. An existing user with another id is left as it is.

    name
        name of the user
    uid
        id of a new user
    group
        name of its primary group
    home
        its home folder, which is not created

    .. code-block:: yaml

        system user sshd has its fixed id:
          account.user:
            - name: sshd
            - uid: 101
            - group: nogroup
            - home: /run/sshd
    """
    try:
        present = pwd.getpwnam(name)
    except KeyError:
        present = None
    if present and present.pw_uid != uid:
        comment = f"user {name} has the id {present.pw_uid} and is left as it is"
        return {"name": name, "result": True, "changes": {}, "comment": comment}
    options = {"uid": uid, "gid": group, "home": home, "shell": "/usr/sbin/nologin"}
    return __states__["user.present"](name, **options, createhome=False, system=True)


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
