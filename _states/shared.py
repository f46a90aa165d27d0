"""Set our entries of files that the box's owner and programs write, too. All other entries are kept.

A file that cannot be read is written again; a copy of its content is kept beside it. A link is replaced by a file.
"""

import grp
import hashlib
import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from vault_cube import shared_files


class Owner(NamedTuple):
    """Owner, group and mode of a file."""

    user: str
    group: str
    mode: str

    def differences(self, file):
        """Return what differs of a file: field to present value."""
        status = file.lstat()
        present = Owner(
            _name(pwd.getpwuid, status.st_uid),
            _name(grp.getgrgid, status.st_gid),
            f"{stat.S_IMODE(status.st_mode):04o}",
        )
        return {field: old for field, old, new in zip(self._fields, present, self, strict=True) if old != new}


def block(name, lines, by, user, group, mode):  # noqa: PLR0917 Salt binds no keyword-only arguments
    """
    Ensure that a file has our lines, between two comments. Without lines, ensure that it has no such block.

    name
        file; it is created if it is missing, and removed if it would be empty
    lines
        our lines
    by
        the state file, for the comments
    user, group, mode
        of the file

    .. code-block:: yaml

        the root file system is found:
          shared.block:
            - name: /etc/fstab
            - lines: [LABEL=root / ext4 defaults 0 1]
            - by: salt/base/first_boot.sls
            - user: root
            - group: root
            - mode: '0644'
    """
    return _set(name, lambda text: shared_files.block(text, lines, by), Owner(user, group, mode))


def hosts(name, entries, user, group, mode):
    """
    Ensure that addresses have our names in hosts(5).

    name
        file
    entries
        list of mappings with `address` and `names`
    user, group, mode
        of the file

    .. code-block:: yaml

        the box resolves its own name:
          shared.hosts:
            - name: /etc/hosts
            - entries: [{address: 127.0.1.1, names: [vault-cube]}]
            - user: root
            - group: root
            - mode: '0644'
    """
    wanted = {entry["address"]: [str(name) for name in entry["names"]] for entry in entries}
    return _set(name, lambda text: shared_files.hosts(text, wanted), Owner(user, group, mode))


def json_object(name, values, user, group, mode):
    """
    Ensure that a JSON file has our keys.

    name
        file
    values
        mapping, merged at every depth; an entry KEY=VALUE of a list replaces those with the same KEY
    user, group, mode
        of the file

    .. code-block:: yaml

        Docker keeps containers alive:
          shared.json_object:
            - name: /etc/docker/daemon.json
            - values: {live-restore: true}
            - user: root
            - group: root
            - mode: '0644'
    """
    return _set(name, lambda text: shared_files.json_object(text, values), Owner(user, group, mode))


def assignments(name, values, user, group, mode, defaults=None):  # noqa: PLR0917 Salt binds no keyword-only arguments
    """
    Ensure that a file of KEY=VALUE lines has our values.

    name
        file
    values
        mapping
    user, group, mode
        of the file
    defaults
        values of keys that may be changed, but must be there

    .. code-block:: yaml

        ufw is on at boot:
          shared.assignments:
            - name: /etc/ufw/ufw.conf
            - values: {ENABLED: 'yes'}
            - user: root
            - group: root
            - mode: '0644'
    """
    return _set(name, lambda text: shared_files.assignments(text, values, defaults or {}), Owner(user, group, mode))


def _set(name, merge, owner):
    file = Path(name)
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} has our entries", "others": []}
    try:
        data = file.read_bytes() if file.exists() else b""
    except OSError as err:
        return {**ret, "result": False, "comment": f"{name}: {err.strerror}: move it away"}
    try:
        merged = merge(data.decode())
    except UnicodeDecodeError as err:
        merged = merge("")
        merged = shared_files.Merged(merged.text, damage=f"not UTF-8 ({err.reason} at byte {err.start})")
    ret["others"] = merged.others
    if merged.others:
        ret["comment"] += f"; {len(merged.others)} of the owner or of programs"
    wanted = merged.text.encode()
    copy = file.with_name(f"{file.name}.damaged-{hashlib.sha256(data).hexdigest()[:8]}") if merged.damage else None
    ret["changes"] = _changes(file, data, wanted, owner, merged.damage)
    if not ret["changes"]:
        return ret
    if copy:
        ret["changes"][str(copy)] = {"old": "", "new": f"a copy of the damaged {file.name}"}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{name} would get our entries"}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            copy.write_bytes(data)
            copy.chmod(0o600)
        if wanted:
            _write(file, wanted, owner)
        else:
            file.unlink()
    except (OSError, KeyError) as err:
        reason = f"{err.filename or name}: {err.strerror}" if isinstance(err, OSError) else f"{name}: {err.args[0]}"
        return {**ret, "changes": {}, "result": False, "comment": reason}
    return {**ret, "comment": f"{name} now has our entries"}


def _changes(file, data, wanted, owner, damage):
    """Return Salt's changes of a file; empty if it has our entries and its owner, or need not exist and does not."""
    if not file.exists() and not wanted and not file.is_symlink():
        return {}
    changes = {}
    if damage or wanted != data or not wanted or file.is_symlink():
        old = damage or (f"a link to {file.readlink()}" if file.is_symlink() else f"{len(data)} bytes")
        changes[str(file)] = {"old": old, "new": "our entries, beside all others"}
    elif different := owner.differences(file):
        changes[str(file)] = {"old": different, "new": {field: getattr(owner, field) for field in different}}
    return changes


def _write(file, data, owner):
    """Replace a file at once, so that no program reads a part of it. Raises OSError; KeyError for an unknown owner."""
    user, group = pwd.getpwnam(owner.user).pw_uid, grp.getgrnam(owner.group).gr_gid
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(data)
    new.chmod(int(owner.mode, 8))
    os.chown(new, user, group)
    new.replace(file)


def _name(find, number):
    try:
        return find(number)[0]
    except KeyError:
        return str(number)
