"""Run a command so that nothing of it survives: not its end, not this process's, not the caller's.

Standard library only; run as a program: `leash.py COMMAND…`. The caller holds our stdin: when that closes (it wants an
end, or it died, even by SIGKILL) every descendant is ended, by SIGTERM and 5 s later by SIGKILL. As a subreaper we
inherit the orphans of frameworks that start sessions of their own, so that these, too, are found.
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
    """All processes below one that are not yet dead."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # the name in parentheses may hold anything, blanks too
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(entry.name))
    found: set[int] = set()
    open_ends = [root]
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found.update(below)
        open_ends += below
    return found


def end_all() -> int:
    """End every descendant; returns how many there were."""
    met: set[int] = set()
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        until = time.monotonic() + patience
        told: set[int] = set()
        while left := descendants(os.getpid()):
            met |= left
            for pid in left - told:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            # one that is born while we kill is told in the next turn
            told |= left
            reap()
            if time.monotonic() > until:
                break
            time.sleep(0.02)
    reap()
    return len(met)


def reap() -> dict[int, int]:
    """Wait status of every child that ended since the last call."""
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
            os.execvp(command[0], command)  # noqa: S606 the leash holds no shell
        except OSError as err:
            sys.stderr.write(f"{command[0]}: {err.strerror}\n")
            os._exit(127)
    while True:
        ended = reap()
        if child in ended:
            left = end_all()
            if left:
                sys.stderr.write(f"@left {left} process(es) that outlived the workload were ended\n")
            status = ended[child]
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        ready, _, _ = select.select([0], [], [], 0.05)
        if ready and not os.read(0, 64):
            end_all()
            return 143


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
