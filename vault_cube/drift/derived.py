"""Files that programs derive from other files: byte code, the linker's cache, the initial RAM disk.

Each is derived again here from the files on the box and compared, because a foreign one would run in place of its
source.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from vault_cube.drift.index import State
from vault_cube.drift.programs import output
from vault_cube.drift.reading import content

BYTE_CODE = re.compile(r"(.*/)__pycache__/([^/]+)\.(\w+-\d+)(\.opt-[12])?\.pyc(\.\d+)?")
VERIFIED = "verified"
"""Stands in the index for the digest of byte code that was compared with its source."""
CACHE = "etc/ld.so.cache"
COMPARE = """\
# a .pyc file begins with 16 bytes: magic number, flags, time and size of the source (PEP 552)
import importlib.util, marshal, sys
for line in sys.stdin.read().splitlines():
    try:
        data = open(line, "rb").read()
        source = importlib.util.source_from_cache(line)
        text = open(source, "rb").read()
        level = 2 if ".opt-2." in line else 1 if ".opt-1." in line else 0
        code = compile(text, source, "exec", dont_inherit=True, optimize=level)
        if data[:4] == importlib.util.MAGIC_NUMBER and marshal.loads(data[16:]) == code:
            print(line, flush=True)
    except Exception:
        pass
"""


def byte_code_source(path: str) -> str:
    """Return the source of a .pyc file, or an empty string if the path is not one."""
    match = BYTE_CODE.fullmatch(path)
    return f"{match.group(1)}{match.group(2)}.py" if match else ""


def same_code(root: Path, paths: Collection[str], known: Mapping[str, State]) -> dict[str, State]:
    """Return the .pyc files whose code is that of their source, with their states, for the index.

    known: states of files that were compared before. Only this Python's own byte code can be compared. A child process
    loads it, because damaged byte code can end an interpreter.
    """
    states, good = {}, {}
    for path in paths:
        try:
            status = (root / path).lstat()
        except OSError:
            continue
        states[path] = State(status.st_ino, status.st_ctime_ns, status.st_size, VERIFIED, "-")
        if known.get(path) == states[path]:
            good[path] = states[path]
    names = "\n".join(str(root / path) for path in sorted(states.keys() - good.keys()))
    if not names:
        return good
    printed = output([sys.executable, "-I", "-B", "-W", "ignore", "-c", COMPARE], os.fsencode(names)) or b""
    equal = {os.path.relpath(line, root) for line in os.fsdecode(printed).splitlines() if line}
    return good | {path: state for path, state in states.items() if path in equal}


def linker_cache(root: Path) -> bool | None:
    """Return whether ld.so.cache is the one that ldconfig makes; None if ldconfig cannot make one here."""
    if root != Path("/"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "cache"
        if output(["/sbin/ldconfig", "-X", "-C", made]) is None:
            return None
        return made.read_bytes() == content(root / CACHE)
