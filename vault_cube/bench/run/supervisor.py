"""Supervisor: run a command, and kill all its descendants when the command, this process or the caller exits.

Standard library only; runs as a program: `supervisor.py COMMAND…`. The caller holds the write end of stdin. When stdin
closes, because the caller closed it or died (even by SIGKILL), every descendant gets SIGTERM, and SIGKILL 5 s later.
Frameworks start processes in sessions of their own; this process is a subreaper, so their orphans become its children.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
GRACE_S = 5.0


def descendants(root: int) -> set[int]:
    """Return the PIDs of all living descendants of a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # the process name in parentheses may contain any character, spaces included
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(entry.name))
    pids: set[int] = set()
    unvisited = [root]
    while unvisited:
        below = children.get(unvisited.pop(), [])
        pids.update(below)
        unvisited += below
    return pids


def end_all() -> int:
    """Kill every descendant of this process; return how many there were."""
    ended: set[int] = set()
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        until = time.monotonic() + patience
        signalled: set[int] = set()
        while left := descendants(os.getpid()):
            ended |= left
            for pid in left - signalled:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            # processes forked in the meantime are signalled in the next iteration
            signalled |= left
            reap()
            if time.monotonic() > until:
                break
            time.sleep(0.02)
    reap()
    return len(ended)


def reap() -> dict[int, int]:
    """Return the wait status of every child that exited since the last call, by PID."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended[pid] = status


def main(command: list[str]) -> int:
    """Run a command under supervision; return its exit status, or 143 if the caller closed stdin."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (end_all(), os._exit(143)))
    child = os.fork()
    if not child:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        try:
            os.execvp(command[0], command)  # noqa: S606 no shell is needed
        except OSError as err:
            sys.stderr.write(f"{command[0]}: {err.strerror}\n")
            os._exit(127)
    while True:
        ended = reap()
        if child in ended:
            left = end_all()
            if left:
                sys.stderr.write(f"@left {left} process(es) that outlived the workload were killed\n")
            status = ended[child]
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        ready, _, _ = select.select([0], [], [], 0.05)
        if ready and not os.read(0, 64):
            end_all()
            return 143


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
