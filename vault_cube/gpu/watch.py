"""What happened to the GPUs since the last look: XIDs, GPUs that stopped answering, and those that are back."""

from __future__ import annotations

from typing import Any

from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.events import xids
from vault_cube.gpu.read.readings import readings

# a machine that never had a driver has lost nothing
NEVER_THERE = ("no library", "no driver")


class Watch:
    """Looks again and again in one session, and tells only what is new."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._most = 0
        self._wrong: dict[str, str] = {}

    def look(self) -> list[dict[str, Any]]:
        """Events since the last look, never an exception; the first look begins to listen.

        Each {tag: xid, lost or back, what: `GPU 2`, `driver` or `count`, …}: an xid has xid, weight, means and todo, a
        loss has problem. `simulated` where a test's library spoke.
        """
        told: list[dict[str, Any]] = []
        try:
            told = [{"tag": "xid", "what": f"GPU {one.get('index', '?')}", **one} for one in xids(self._session)]
            wrong = self._silent()
        except NvmlProblem as err:
            known = bool(self._most or self._wrong)
            wrong = {"driver": str(err)} if known or err.problem.kind not in NEVER_THERE else {}
        before, self._wrong = self._wrong, wrong
        told += [{"tag": "lost", "what": what, "problem": why} for what, why in wrong.items() if what not in before]
        told += [{"tag": "back", "what": what} for what in before if what not in wrong]
        return [{**one, "simulated": True} for one in told] if self._session.simulated else told

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def _silent(self) -> dict[str, str]:
        now = readings(self._session, full=False)
        self._most = max(self._most, len(now))
        wrong = {f"GPU {one['index']}": one["problem"] for one in now if "problem" in one}
        if len(now) < self._most:
            wrong["count"] = f"the driver lists {len(now)} GPUs, and {self._most} before"
        return wrong
