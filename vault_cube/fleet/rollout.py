"""The plan of a rollout: which boxes get a release, in which order, and by which steps; and why one stopped."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vault_cube.errors import VaultCubeError

SILENT = "does not answer"
COMMIT = re.compile(r"[0-9a-f]{40}")
SHOWN = 200
"""Characters of a reason."""

Answer = Mapping[str, Any]
"""What a box returned: `ret`, and `retcode`."""


class Step(NamedTuple):
    """A function that all boxes of a batch run at the same time."""

    name: str
    fun: str
    boxes: Sequence[str]
    arg: Sequence[Any] = ()
    kwarg: Mapping[str, Any] = {}


def answers(boxes: Iterable[str], returned: Mapping[str, Any]) -> dict[str, Answer]:
    """Return the answer of each box; that of a silent one has the retcode 1.

    returned: what Salt's client returned, in full. A box without a key is missing there; one that did not answer is
    False, or has a sentence and `out: no_return`.
    """
    collected: dict[str, Answer] = {}
    for box in boxes:
        answer = returned.get(box)
        if isinstance(answer, Mapping) and "ret" in answer and answer.get("out") != "no_return":
            collected[box] = {"retcode": 0, **answer}
        else:
            collected[box] = {"ret": SILENT, "retcode": 1}
    return collected


def batches(
    boxes: Iterable[str], done: Iterable[str], canaries: Sequence[str], size: int, *, canaries_first: bool = True
) -> list[list[str]]:
    """Divide boxes into batches: the canaries in a batch of their own, then the others by name.

    done: boxes that need nothing; they are left out, so that a stopped rollout continues where it stopped.
    """
    todo = set(boxes) - set(done)
    first = [box for box in canaries if box in todo] if canaries_first else []
    rest = sorted(todo - set(first))
    return ([first] if first else []) + [rest[start : start + size] for start in range(0, len(rest), size)]


def done(versions: Mapping[str, Answer], commit: str) -> list[str]:
    """Return the boxes that have a release, and have passed its checks."""
    return [
        box
        for box, answer in versions.items()
        if not answer["retcode"]
        and isinstance(answer["ret"], Mapping)
        and answer["ret"].get("commit") == commit
        and answer["ret"].get("accepted")
    ]


def install(planned: Sequence[Sequence[str]], commit: str, sha256: str, layers: Sequence[str]) -> list[Step]:
    """Return the steps that install a release on batches of boxes, and check them."""
    archive = {"commit": commit, "sha256": sha256}
    return _steps(planned, ("install the release", "checkout.update", (), archive), layers)


def back(planned: Sequence[Sequence[str]], layers: Sequence[str]) -> list[Step]:
    """Return the steps that put the previous release back on batches of boxes, and check them."""
    return _steps(planned, ("put the previous release back", "checkout.rollback", (), {}), layers)


def _steps(planned: Sequence[Sequence[str]], first: tuple[str, str, Any, Any], layers: Sequence[str]) -> list[Step]:
    parts = [
        first,
        ("apply", "checkout.apply", (), {}),
        *((f"check layer {layer}", "layer.check", (layer,), {}) for layer in layers),
        ("check the GPUs", "gpu.health", (), {}),
        ("accept", "checkout.accept", (), {}),
    ]
    return [
        Step(f"batch {number} of {len(planned)} ({', '.join(batch)}): {name}", fun, batch, arg, kwarg)
        for number, batch in enumerate(planned, 1)
        for name, fun, arg, kwarg in parts
    ]


def checked_commit(commit: Any, known: Iterable[str]) -> str:
    """Return the full commit for its first characters, at least 7. Raises VaultCubeError.

    known: the commits of the master's releases.
    """
    text = str(commit)
    matches = sorted(name for name in known if re.fullmatch(r"[0-9a-f]{7,40}", text) and name.startswith(text))
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise VaultCubeError(f"{text[:40]}: {len(matches)} releases begin with that: write more of the commit")
    raise VaultCubeError(f"{text[:40]}: the master has no such release: make it with `make fleet-release`")


def stopped_at(states: Mapping[str, Mapping[str, Any]], steps: Sequence[Step]) -> dict[str, Any] | None:
    """Return the step at which an orchestration stopped, and a reason for each box that failed; None if it did not.

    states: the results of the steps, as Salt returns them.
    """
    results = {state.get("__id__"): state for state in states.values()}
    for step in steps:
        state = results.get(step.name)
        if state is None or not state["result"]:
            return {"step": step.name, "reasons": _reasons(step, state or {"comment": "did not run", "changes": {}})}
    return None


def _reasons(step: Step, state: Mapping[str, Any]) -> dict[str, str]:
    comment = str(state.get("comment", "")).strip()
    changes = state.get("changes") or {}
    answers = changes.get("ret", {}) if isinstance(changes, Mapping) else {}
    # salt.states.saltmod: "Running function F failed on minions: b2, b3 Function F ran on b1, b2, b3."
    listed = comment.partition("failed on minions: ")[2].partition(" Function ")[0].split(", ")
    failed = [box for box in step.boxes if box in listed or box not in answers]
    return {box: reason(answers.get(box, SILENT)) for box in failed} or {"": comment[:SHOWN]}


def checked_size(size: Any) -> int:
    """Return the size of a batch. Raises VaultCubeError if it is no number of boxes."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise VaultCubeError(f"batch: {str(size)[:40]}: give a number of boxes, at least 1")
    return size


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops when the process ends. Raises VaultCubeError if another process has it."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VaultCubeError("another rollout is running: wait until it has ended, see `fleet.status`") from None
        yield


def reason(answer: Any) -> str:
    """Describe in one line why a box's answer is a failure: one of a check, of checkout.apply or of state.apply."""
    if isinstance(answer, Mapping) and isinstance(answer.get("checks"), list):
        bad = [check for check in answer["checks"] if check.get("status") not in ("ok", "not applicable")]
        lines = [f"{check['check']}{_gpu(check)}: {check['evidence']}" for check in bad]
        return _short("; ".join(lines))
    if isinstance(answer, Mapping) and answer.get("failed"):
        return _short("; ".join(map(str, answer["failed"])))
    if isinstance(answer, Mapping) and (states := [s for s in answer.values() if _is_state(s)]):
        failed = [f"{state.get('__id__')}: {state['comment']}" for state in states if state["result"] is False]
        return _short("; ".join(failed))
    if answer is False:  # what Salt stores for a box that did not return
        return SILENT
    return _short(str(answer))


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and "result" in value and "comment" in value


def _gpu(check: Mapping[str, Any]) -> str:
    return f" (GPU {check['gpu']})" if check.get("gpu") is not None else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 2] + " …"
