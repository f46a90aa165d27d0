"""Print the debugfs commands, one per line, that add the top layer to a file system with the layers below it.

Runs as a program in the tools tree: `ext4_changes.py BELOW TREE TOP EPOCH VALUES`. BELOW is the mount of the lower
layers, TREE the mount of all layers. TOP is the top layer's own folder: only paths in it can differ.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path


def commands(below: Path, tree: Path, top: Path, epoch: int, values: Path) -> Iterator[str]:
    """Yield the commands that turn `below` into `tree`.

    epoch: the time that mke2fs sets for all times except a file's mtime, seconds since 1970. values: an empty folder
    for the values of extended attributes. Raises ValueError for a file that debugfs cannot create.
    """
    yield f"set_current_time @{epoch}"
    linked: dict[int, Path] = {}
    # sorted, so that a folder comes before its content
    for path in sorted(item.relative_to(top) for item in (top, *top.rglob("*"))):
        old, new = _status(below / path), _status(tree / path)
        if new is None:
            continue  # deleted by this layer; emitted with its parent directory
        if old and stat.S_IFMT(old.st_mode) == stat.S_IFMT(new.st_mode) == stat.S_IFDIR:
            for name in sorted(_names(below / path) - _names(tree / path)):
                yield from _remove(below, path / name)
        else:
            if old:
                yield from _remove(below, path)
                old = None
            if stat.S_ISREG(new.st_mode) and new.st_nlink > 1:
                first = linked.setdefault(new.st_ino, path)
                if first != path:
                    yield from (f"cd {_quoted(path.parent)}", f"ln {_quoted(first)} {_word(f'./{path.name}')}")
                    # debugfs does not maintain link counts
                    yield f"set_inode_field {_quoted(first)} links_count {new.st_nlink}"
                    continue
            yield from (f"cd {_quoted(path.parent)}", _create(tree / path, new.st_mode))
        yield from _attributes(below / path if old else None, tree / path, path, values)
        for field, value in {
            "mode": f"0{new.st_mode:o}",
            "uid": new.st_uid,
            "gid": new.st_gid,
            "mtime": f"@{min(int(new.st_mtime), epoch)}",
            **dict.fromkeys(("atime", "ctime", "crtime"), f"@{epoch}"),
        }.items():
            yield f"set_inode_field {_quoted(path)} {field} {value}"


def _create(source: Path, mode: int) -> str:
    """Return the command that creates a file, folder or symbolic link in debugfs' current folder."""
    name = _word(source.name)
    if stat.S_ISDIR(mode):
        return f"mkdir {name}"
    if stat.S_ISLNK(mode):
        return f"symlink {name} {_word(os.readlink(source))}"  # noqa: PTH115 a Path would normalize the target
    if stat.S_ISREG(mode):
        return f"write {_word(str(source))} {name}"
    raise ValueError(f"{source}: not a regular file, folder or symbolic link, so it cannot be written to the disk")


def _remove(below: Path, path: Path) -> Iterator[str]:
    """Yield the commands that remove a path of `below`, with its content.

    They name it `./NAME`: debugfs looks for `/NAME` in its current folder, and reads `<2>` as an inode number.
    """
    verb = "rm"
    if (below / path).is_dir() and not (below / path).is_symlink():
        for name in sorted(_names(below / path)):
            yield from _remove(below, path / name)
        verb = "rmdir"
    yield from (f"cd {_quoted(path.parent)}", f"{verb} {_word(f'./{path.name}')}")


def _names(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


def _attributes(old: Path | None, new: Path, path: Path, values: Path) -> Iterator[str]:
    """Yield the commands that set and remove extended attributes, such as capabilities and access lists."""
    have, want = (_extended(place) if place else {} for place in (old, new))
    for name in sorted(have.keys() - want.keys()):
        yield f"ea_rm {_quoted(path)} {_word(name)}"
    for name, value in sorted(want.items()):
        if have.get(name) != value:
            file = values / str(len(list(values.iterdir())))
            file.write_bytes(value)
            yield f"ea_set -f {_word(str(file))} {_quoted(path)} {_word(name)}"


def _extended(place: Path) -> dict[str, bytes]:
    names = os.listxattr(place, follow_symlinks=False)
    return {name: os.getxattr(place, name, follow_symlinks=False) for name in names}


def _status(place: Path) -> os.stat_result | None:
    try:
        return place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _quoted(path: Path) -> str:
    """Return an absolute path in the file system, quoted for a command."""
    return _word(str(Path("/") / path))


def _word(text: str) -> str:
    """Return a quoted argument of a debugfs command."""
    if "\n" in text:
        raise ValueError(f"{text!r}: debugfs does not support names with a line break")
    return '"' + text.replace('"', '""') + '"'


if __name__ == "__main__":
    below, tree, top, epoch, values = sys.argv[1:]
    try:
        for line in commands(Path(below), Path(tree), Path(top), int(epoch), Path(values)):
            print(line)
    except ValueError as err:
        sys.exit(str(err))
