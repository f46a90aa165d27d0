"""Create system accounts with fixed ids before a package creates them with other ones.

Not group.present and user.present with `unless`: to find out whether these have a function `mod_run_check`, Salt loads
all state modules and with them all execution modules, which takes 1 s in every run.
"""

import grp
import pwd


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
