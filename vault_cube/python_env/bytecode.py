"""Compile reproducible byte code: `bytecode.py MODE STRIP TOP`, run by the Python that will use it.

Python's byte code also depends on the strings that the compiling process has interned before: a constant that contains
one of them is written once or twice (CPython, Python/marshal.c, FLAG_REF; seen with {"linux", "android"} under 3.13).
Therefore each folder is compiled, in the order of its file names, by its own process, forked from one that has compiled
nothing. The number and the speed of the processors then change no byte.
"""

from __future__ import annotations

import compileall
import os
import sys
from collections.abc import Sequence
from py_compile import PycInvalidationMode

# every process must start the same, so without site-packages and the script's folder; -B: write no byte code of the
# standard library
FLAGS = ("-S", "-s", "-P", "-B")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}


def folders(top: str) -> list[list[str]]:
    """List the Python sources below a folder: one sorted list per folder."""
    sources = []
    for place, below, files in os.walk(top):
        below[:] = sorted(name for name in below if name != "__pycache__")
        sources.append([f"{place}/{name}" for name in sorted(files) if name.endswith(".py")])
    return [files for files in sources if files]


def compile_all(wanted: Sequence[Sequence[str]], mode: PycInvalidationMode, strip: str | None, workers: int) -> None:
    """Compile the sources that have no byte code yet. Skip files that no Python 3 can compile, such as templates.

    wanted: sources by folder. mode: how Python detects outdated byte code. strip: prefix to remove from the paths in
    the byte code. workers: number of processes to run at the same time.
    """
    running = []
    for number in range(workers):
        worker = os.fork()
        if worker:
            running.append(worker)
            continue
        for files in wanted[number::workers]:
            compiler = os.fork()
            if compiler == 0:
                for file in files:
                    compileall.compile_file(file, quiet=2, invalidation_mode=mode, stripdir=strip)
                os._exit(0)
            os.waitpid(compiler, 0)
        os._exit(0)
    for worker in running:
        os.waitpid(worker, 0)


if __name__ == "__main__":
    mode_name, prefix, top = sys.argv[1:]
    compile_all(folders(top), PycInvalidationMode[mode_name], prefix or None, os.cpu_count() or 1)
