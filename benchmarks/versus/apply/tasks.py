"""Export what the base layer's states set, as data that other tools can set: `tasks.py LOWSTATE.json TASKS.json`.

Runs in a tree to which the states were applied; a file's content is the one in the tree. Handlers such as restarts are
left out, because a tree runs no services.
"""

import grp
import hashlib
import json
import pwd
import sys
from pathlib import Path

SOURCES = Path("/run/versus/sources")


def main():
    chunks = json.loads(Path(sys.argv[1]).read_text())["local"]
    tasks = {kind: [] for kind in KINDS.values()}
    parents = {}
    unknown = []
    for chunk in chunks:
        function = f"{chunk['state']}.{chunk['fun']}"
        if function in SALT_ONLY or chunk.get("replace") is False:
            continue
        kind = KINDS.get(function)
        if kind:
            tasks[kind].append(globals()[kind](chunk))
            if chunk.get("makedirs"):
                parent = str(Path(chunk["name"]).parent)
                parents[parent] = folders({"name": parent})
        elif not (chunk["state"] == "cmd" and "onchanges" in chunk):
            unknown.append(function)
    if unknown:
        sys.exit(f"tasks.py: no translation for {', '.join(sorted(set(unknown)))}: add one for each tool")
    flat = {
        "assignments": [
            {"path": part["path"], "key": key, "value": value}
            for part in tasks.pop("assignments")
            for key, value in part["values"].items()
        ],
        # `groups` and `hosts` are variables of Ansible's own
        "groups_wanted": tasks.pop("groups"),
        "hosts_wanted": tasks.pop("hosts"),
        "parents": list(parents.values()),
        "blocks": joined(tasks.pop("blocks")),
    }
    Path(sys.argv[2]).write_text(json.dumps({**tasks, **flat, "states": len(chunks)}, indent=1))


KINDS = {
    "file.managed": "files", "file.serialize": "files", "file.symlink": "links", "file.directory": "folders",
    "file.absent": "absent", "account.group": "groups", "group.present": "groups", "account.user": "users",
    "user.present": "users", "packages.installed": "packages", "unit.enabled": "units", "unit.disabled": "units_off",
    "held.packages": "held", "shared.block": "blocks", "shared.hosts": "hosts", "shared.assignments": "assignments",
    "shared.json_object": "objects",
}  # fmt: skip
SALT_ONLY = {"places.usable", "places.plain", "account.without_password", "setuid.removed", "file.replace"}
"""Checks and edits of other packages' files, which only Salt makes here: their time counts against Salt alone."""


def files(chunk):
    file = Path(chunk["name"])
    status = file.stat()
    owner = {"user": pwd.getpwuid(status.st_uid).pw_name, "group": grp.getgrgid(status.st_gid).gr_name}
    check = "/usr/sbin/visudo -cqf %s" if "visudo" in chunk.get("check_cmd", "") else ""
    return {"path": str(file), "src": copy(file.read_bytes()), "mode": chunk["mode"], "check": check, **owner}


def links(chunk):
    return {"path": chunk["name"], "target": chunk["target"]}


def folders(chunk):
    status = Path(chunk["name"]).stat()
    return {
        "path": chunk["name"],
        "mode": f"{status.st_mode & 0o7777:04o}",
        "user": pwd.getpwuid(status.st_uid).pw_name,
        "group": grp.getgrgid(status.st_gid).gr_name,
    }


def absent(chunk):
    return chunk["name"]


def groups(chunk):
    return {"name": chunk["name"], "gid": grp.getgrnam(chunk["name"]).gr_gid, "system": chunk["state"] == "account"}


def users(chunk):
    entry = pwd.getpwnam(chunk["name"])
    return {
        "name": chunk["name"],
        "uid": entry.pw_uid,
        "group": grp.getgrgid(entry.pw_gid).gr_name,
        "groups": chunk.get("groups", []),
        "home": entry.pw_dir,
        "shell": entry.pw_shell,
        "create_home": chunk.get("createhome", False),
        "system": chunk["state"] == "account",
    }


def packages(chunk):
    return chunk["pkgs"]


def held(chunk):
    return chunk["packages"]


def units(chunk):
    return chunk["name"]


units_off = units


def blocks(chunk):
    return {"path": chunk["name"], "lines": chunk["lines"], "mode": chunk.get("mode", "0644")}


def joined(parts):
    """Join the blocks of a file: the other tools know one block per file."""
    files = {}
    for part in parts:
        files.setdefault(part["path"], {**part, "lines": []})["lines"] += part["lines"]
    return list(files.values())


def hosts(chunk):
    return {
        "path": chunk["name"],
        "lines": [
            {"address": row["address"], "line": f"{row['address']} {' '.join(row['names'])}"}
            for row in chunk["entries"]
        ],
    }


def assignments(chunk):
    return {"path": chunk["name"], "values": chunk["values"]}


def objects(chunk):
    content = json.dumps(chunk["values"], indent=4, sort_keys=True) + "\n"
    return {"path": chunk["name"], "src": copy(content.encode())}


def copy(content):
    """Write the content of a file below SOURCES. Returns the copy's path."""
    file = SOURCES / hashlib.sha256(content).hexdigest()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return str(file)


if __name__ == "__main__":
    main()
