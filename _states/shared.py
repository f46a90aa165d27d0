"""Set our entries of files that the box's owner and programs write, too. All other entries are kept.

A file that cannot be read is written again; a copy of its content is kept beside it.
"""

import hashlib
from pathlib import Path

from vault_cube import shared_files


def block(name, lines, by, mode="0644", user="root", group="root"):  # noqa: PLR0917 Salt binds no keyword-only arguments
    """
    Ensure that a file has our lines, between two comments. Without lines, ensure that it has no such block.

    name
        file; it is created if it is missing, and removed if it would be empty
    lines
        our lines
    by
        the state file, for the comments
    mode, user, group
        of a file that is created or changed

    .. code-block:: yaml

        the root file system is found:
          shared.block:
            - name: /etc/fstab
            - lines: [LABEL=root / ext4 defaults 0 1]
            - by: salt/base/first_boot.sls
    """
    return _set(name, lambda text: shared_files.block(text, lines, by), mode, user, group)


def hosts(name, entries):
    """
    Ensure that addresses have our names in hosts(5).

    name
        file
    entries
        list of mappings with `address` and `names`

    .. code-block:: yaml

        the box resolves its own name:
          shared.hosts:
            - name: /etc/hosts
            - entries: [{address: 127.0.1.1, names: [vault-cube]}]
    """
    wanted = {entry["address"]: [str(name) for name in entry["names"]] for entry in entries}
    return _set(name, lambda text: shared_files.hosts(text, wanted))


def json_object(name, values):
    """
    Ensure that a JSON file has our keys.

    name
        file
    values
        mapping, merged at every depth; an entry KEY=VALUE of a list replaces those with the same KEY

    .. code-block:: yaml

        Docker keeps containers alive:
          shared.json_object:
            - name: /etc/docker/daemon.json
            - values: {live-restore: true}
    """
    return _set(name, lambda text: shared_files.json_object(text, values))


def assignments(name, values, defaults=None):
    """
    Ensure that a file of KEY=VALUE lines has our values.

    name
        file
    values
        mapping
    defaults
        values of keys that may be changed, but must be there

    .. code-block:: yaml

        ufw is on at boot:
          shared.assignments:
            - name: /etc/ufw/ufw.conf
            - values: {ENABLED: 'yes'}
    """
    return _set(name, lambda text: shared_files.assignments(text, values, defaults or {}))


def _set(name, merge, mode="0644", user="root", group="root"):
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
    if wanted == data and (wanted or not file.exists()):
        return ret
    copy = file.with_name(f"{file.name}.damaged-{hashlib.sha256(data).hexdigest()[:8]}") if merged.damage else None
    changes = {name: {"old": merged.damage or f"{len(data)} bytes", "new": "our entries, beside all others"}}
    if copy:
        changes[str(copy)] = {"old": "", "new": f"a copy of the damaged {file.name}"}
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": f"{name} would get our entries"}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            copy.write_bytes(data)
            copy.chmod(0o600)
        if wanted:
            _write(file, wanted, mode, user, group)
        else:
            file.unlink()
    except OSError as err:
        return {**ret, "result": False, "comment": f"{err.filename or name}: {err.strerror}"}
    return {**ret, "changes": changes, "comment": f"{name} now has our entries"}


def _write(file, data, mode, user, group):
    """Replace a file at once, so that no program reads a part of it; a link stays a link."""
    file = file.resolve()
    before = file.stat() if file.exists() else None
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(data)
    new.chmod(before.st_mode & 0o7777 if before else int(mode, 8))
    if before:
        __salt__["file.chown"](str(new), before.st_uid, before.st_gid)
    else:
        __salt__["file.chown"](str(new), user, group)
    new.replace(file)
