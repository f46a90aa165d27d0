"""Byte code that depends on the sources alone. Run by the Python that will use it: `bytecode.py MODE STRIP TOP`.

What Python writes also depends on the strings that the compiling process has met before: a constant that holds one of
them is written once or twice (CPython, Python/marshal.c, FLAG_REF; seen with {"linux", "android"} under 3.13). So each
folder is compiled, in the order of its names, by a process that is forked from one that has compiled nothing: how many
processors there are, and which of them is faster, changes no byte.
"""

from __future__ import annotations

import compileall
import os
import sys
from collections.abc import Sequence
from py_compile import PycInvalidationMode

# no site-packages and no script's folder: they would be another start; -B: no byte code of the standard library
FLAGS = ("-S", "-s", "-P", "-B")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}


def folders(top: str) -> list[list[str]]:
    """The Python sources below a folder, a sorted list a folder."""
    found = []
    for place, below, files in os.walk(top):
        below[:] = sorted(name for name in below if name != "__pycache__")
        found.append([f"{place}/{name}" for name in sorted(files) if name.endswith(".py")])
    return [files for files in found if files]


def compile_all(wanted: Sequence[Sequence[str]], mode: PycInvalidationMode, strip: str | None, workers: int) -> None:
    """Compile the sources that have no byte code yet. One that no Python 3 can compile (a template) is left alone.

    wanted: sources by folder. strip: the beginning of the paths in the byte code that is left out. workers: processes
    at a time.
    """
    running = []
    for number in range(workers):
        worker = os.fork()
        if worker:
            running.append(worker)
            continue
        for files in wanted[number::workers]:
            own = os.fork()
            if own == 0:
                for file in files:
                    compileall.compile_file(file, quiet=2, invalidation_mode=mode, stripdir=strip)
                os._exit(0)
            os.waitpid(own, 0)
        os._exit(0)
    for worker in running:
        os.waitpid(worker, 0)


if __name__ == "__main__":
    chosen, beginning, top = sys.argv[1:]
    compile_all(folders(top), PycInvalidationMode[chosen], beginning or None, os.cpu_count() or 1)
