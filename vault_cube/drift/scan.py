"""Compare the files of a tree with the manifest of its image."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from vault_cube.drift.index import State
from vault_cube.drift.manifest import Manifest
from vault_cube.tree_manifest import KINDS, sha256_of, xattrs_of

Kind = Literal["changed", "missing", "extra", "unreadable"]
NAMES = {"f": "file", "l": "link", "d": "folder", "c": "device", "b": "device", "p": "pipe", "s": "socket"}
TOGETHER = 200
"""Number of files that a thread hashes at a time."""


@dataclass(frozen=True)
class Difference:
    """A path that differs from the manifest."""

    path: str
    kind: Kind
    fields: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name of the field → value in the image, value on the box; for `extra` the mode and the owner of the box."""
    type: str = ""
    """For `extra`: type of the file, as in KINDS."""
    state: State | None = None
    """State of a regular file whose content differs."""

    @property
    def only_content(self) -> bool:
        """Whether a regular file differs in its content only."""
        return self.kind == "changed" and self.fields.keys() <= {"size", "content"}

    def change(self) -> str:
        """Describe the difference in a few words."""
        if self.kind == "extra":
            mode, owner = (self.fields[name][1] for name in ("mode", "owner"))
            return f"{NAMES[self.type]} is not in the image (mode {mode}, owner {owner})"
        if self.kind == "changed":
            words = ["content" if name == "content" and len(old) == 64 else f"{name} {old or 'none'} → {new or 'none'}"
                     for name, (old, new) in self.fields.items() if name != "size"]  # fmt: skip
            return ", ".join(words)
        return "missing" if self.kind == "missing" else "cannot be read"


class Scan:
    """One comparison of a tree. After `run`: `read` and `trusted` count files, `states` is the new index."""

    def __init__(
        self,
        root: Path,
        manifest: Manifest,
        known: Mapping[str, State],
        skip: Callable[[str], bool],
        *,
        full: bool = False,
    ) -> None:
        """Prepare a comparison.

        known: states of files that were already read. skip: returns whether what is below a folder is not compared.
        full: read every file.
        """
        self._root = str(root).rstrip("/")
        self._manifest = manifest
        self._known = {} if full else known
        self._skip = skip
        # a file of the image that was never written since has the change time that the image's file system was given
        self._never_written = None if full else manifest.header["epoch"] * 10**9
        self._seen: set[str] = set()
        self._unseen: list[str] = []
        self._hash: list[tuple[str, os.stat_result, dict[str, tuple[str, str]]]] = []
        self.differences: list[Difference] = []
        self.states: dict[str, State] = {}
        self.read = 0
        self.trusted = 0

    def run(self, tops: Iterable[str] = ("",)) -> list[Difference]:
        """Compare everything below some folders, relative to the root. Returns the differences, sorted by path."""
        for top in tops:
            self._top(top)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = [self._hash[start : start + TOGETHER] for start in range(0, len(self._hash), TOGETHER)]
            for differences in pool.map(lambda part: [self._contents(*item) for item in part], parts):
                self.differences += [difference for difference in differences if difference]
        self.differences += self._missing(tuple(tops))
        return sorted(self.differences, key=lambda difference: difference.path)

    def _top(self, top: str) -> None:
        folder = f"{self._root}/{top}"
        try:
            status = os.lstat(folder)
        except OSError:
            return
        if top:
            self._look(top, status)
        elif "." in self._manifest.entries:
            self._compare(".", status)
        if stat.S_ISDIR(status.st_mode):
            self._walk(folder, f"{top}/" if top else "", status.st_dev)

    def _walk(self, folder: str, prefix: str, device: int) -> None:
        try:
            with os.scandir(folder) as listing:
                items = list(listing)
        except OSError:
            self.differences.append(Difference(prefix.rstrip("/"), "unreadable"))
            self._unseen.append(prefix)
            return
        for item in items:
            path = prefix + item.name
            try:
                status = item.stat(follow_symlinks=False)
            except OSError:
                continue  # removed in the meantime; an entry of the image then counts as missing
            is_folder = stat.S_ISDIR(status.st_mode)
            # another file system is mounted there: running.py reports mounts
            mounted = is_folder and status.st_dev != device
            if mounted:
                self._seen.add(path)
                self._unseen.append(f"{path}/")
                continue
            self._look(path, status)
            if is_folder and self._skip(path):
                self._unseen.append(f"{path}/")
            elif is_folder:
                self._walk(item.path, f"{path}/", device)

    def _look(self, path: str, status: os.stat_result) -> None:
        self._seen.add(path)
        if path in self._manifest.entries:
            self._compare(path, status)
        else:
            own = {"mode": ("", f"{stat.S_IMODE(status.st_mode):o}"), "owner": ("", f"{status.st_uid}:{status.st_gid}")}
            self.differences.append(Difference(path, "extra", own, KINDS[stat.S_IFMT(status.st_mode)]))

    def _compare(self, path: str, status: os.stat_result) -> None:
        line = self._manifest.entries[path].line
        full = f"{self._root}/{path}"
        kind = KINDS[stat.S_IFMT(status.st_mode)]
        if kind != line.type:
            self.differences.append(Difference(path, "changed", {"type": (NAMES[line.type], NAMES[kind])}))
            return
        fields: dict[str, tuple[str, str]] = {}
        if stat.S_IMODE(status.st_mode) != line.mode:
            fields["mode"] = (f"{line.mode:o}", f"{stat.S_IMODE(status.st_mode):o}")
        if (owner := f"{status.st_uid}:{status.st_gid}") != line.owner:
            fields["owner"] = (line.owner, owner)
        if kind == "f":
            self._file(path, status, fields)
            return
        try:
            if kind == "l" and (target := _target(full)) != unquote(line.content):
                fields["content"] = (unquote(line.content), target)
            if (xattrs := xattrs_of(full)) != line.xattrs:
                fields["xattrs"] = (line.xattrs, xattrs)
        except OSError:
            self.differences.append(Difference(path, "unreadable"))
            return
        if fields:
            self.differences.append(Difference(path, "changed", fields))

    def _file(self, path: str, status: os.stat_result, fields: dict[str, tuple[str, str]]) -> None:
        """Compare a regular file; read it only if it may have been written since it was last read."""
        line = self._manifest.entries[path].line
        known = self._known.get(path)
        if status.st_ctime_ns == self._never_written and status.st_size == line.size:
            self.trusted += 1
            if fields:
                self.differences.append(Difference(path, "changed", fields))
        elif known and known[:3] == (status.st_ino, status.st_ctime_ns, status.st_size):
            self.trusted += 1
            self.states[path] = known
            if difference := self._judged(path, known, fields):
                self.differences.append(difference)
        else:
            self._hash.append((path, status, fields))

    def _contents(self, path: str, status: os.stat_result, fields: dict[str, tuple[str, str]]) -> Difference | None:
        full = f"{self._root}/{path}"
        try:
            state = State(
                status.st_ino, status.st_ctime_ns, status.st_size, sha256_of(full, status.st_size), xattrs_of(full)
            )
            unchanged = os.lstat(full).st_ctime_ns == status.st_ctime_ns
        except FileNotFoundError:
            return Difference(path, "missing")
        except OSError:
            return Difference(path, "unreadable")
        self.read += 1
        if unchanged:
            self.states[path] = state
        return self._judged(path, state, fields)

    def _judged(self, path: str, state: State, fields: Mapping[str, tuple[str, str]]) -> Difference | None:
        line, content = self._manifest.entries[path].line, self._manifest.content(path)
        fields = dict(fields)
        if state.size != line.size:
            fields["size"] = (str(line.size), str(state.size))
        if state.sha256 != content:
            fields["content"] = (content, state.sha256)
        if state.xattrs != line.xattrs:
            fields["xattrs"] = (line.xattrs, state.xattrs)
        return Difference(path, "changed", fields, state=state) if fields else None

    def _missing(self, tops: tuple[str, ...]) -> list[Difference]:
        """List the entries of the image that the tree lacks; of a missing folder only the folder."""
        unseen, inside = tuple(self._unseen), tuple(f"{top}/" for top in tops if top)
        gone: set[str] = set()
        for path in sorted(self._manifest.entries.keys() - self._seen - {"."}):
            compared = not inside or path in tops or path.startswith(inside)
            if compared and not path.startswith(unseen):
                gone.add(path)
        return [Difference(path, "missing") for path in gone if path.rpartition("/")[0] not in gone]


def _target(path: str) -> str:
    return os.readlink(path)  # noqa: PTH115 the target is needed exactly as it is written
