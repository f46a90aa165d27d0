"""Make sure that states can write their files. Both states come before all others."""

from pathlib import Path

from vault_cube.repair import places


def usable(name, folders):
    """
    Fail if a file system is read-only or full. Move pipes and devices in the place of files aside.

    With `failhard`, no other state follows, which would fail in the same way or wait for ever.

    name
        what the state is for; not used
    folders
        folders on the file systems that states write to

    .. code-block:: yaml

        files can be read and written:
          places.usable:
            - folders: [/etc, /var/lib]
            - failhard: True
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "files can be read and written"}
    problem = next(filter(None, (places.writable(Path(folder)) for folder in folders if Path(folder).is_dir())), "")
    pipes = places.blocking(places.written_by(__lowstate__))
    if __opts__["test"]:
        if pipes:
            return {**ret, "result": False, "comment": f"{pipes[0]} is a pipe or device: `state.apply` moves it aside"}
        changes = {"files": {"old": problem, "new": ""}} if problem else {}
        return {**ret, "result": None if problem else True, "changes": changes, "comment": problem or ret["comment"]}
    if problem:
        return {**ret, "result": False, "comment": f"{problem}; then apply again. Nothing was changed"}
    try:
        for pipe in pipes:
            places.move_aside(Path(pipe))
    except OSError as err:
        return {**ret, "result": False, "comment": f"{err.filename}: {err.strerror}: move it away"}
    return {**ret, "changes": {pipe: {"old": "a pipe or device", "new": ""} for pipe in pipes}}


def plain(name, paths=None, with_acls=None, links=None):
    """
    Ensure that the other states of this run can write their files, and that nobody else can.

    Files and the folders above them must be neither immutable nor append-only and have no access control list. A file
    must not be a link, a folder or a pipe: a link is replaced by a copy of its target, another kind is moved aside.
    Folders belong to root or to the file's user, and others may not write to them. Below /etc they must exist.

    name
        what the state is for; not used
    paths
        further files that must be regular, such as /etc/passwd
    with_acls
        folders that may have access control lists
    links
        files that may be links

    .. code-block:: yaml

        states can write their files:
          places.plain:
            - paths: [/etc/passwd]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "all places are plain files and folders"}
    written = places.written_by(__lowstate__)
    written.with_acls.update(with_acls or [])
    for path in paths or []:
        written.add(path, regular=True)
    written.files.difference_update(links or [])
    try:
        problems = places.problems(written)
        if not problems:
            return ret
        ret["changes"] = {path: {"old": problem, "new": "repaired"} for path, problem in problems.items()}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"would be repaired: {_listed(problems)}"}
        places.repair(written)
        remaining = places.problems(written)
    except OSError as err:
        return {**ret, "result": False, "changes": {}, "comment": f"{err.filename}: {err.strerror}"}
    if remaining:
        path, problem = next(iter(remaining.items()))
        return {**ret, "result": False, "comment": f"{path} is still {problem}: repair it by hand"}
    return {**ret, "comment": f"repaired: {_listed(problems)}"}


def _listed(problems):
    """Name the first places and what is wrong with them."""
    listed = [f"{path} ({problem})" for path, problem in problems.items()]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
