"""`fleet.report`: one self-contained HTML page about all boxes, in the format of `gpu.report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vault_cube.bench.report.pages import MEANING, Chapter, Table, html
from vault_cube.fleet import boxes
from vault_cube.fleet.rollout import Answer, reason
from vault_cube.verdicts import ORDER

TITLE = "Vault Cube: the fleet"


def page(
    grains: Mapping[str, Answer],
    health: Mapping[str, Answer],
    versions: Mapping[str, Answer],
    when: str,
    outlier_share: float,
) -> str:
    """Return the page as HTML.

    grains: what grains.item returned for boxes.GRAINS. health: what gpu.health returned. versions: what
    checkout.version returned. when: time of the report. outlier_share: as in `boxes.outliers`.
    """
    rows = boxes.inventory(grains)
    verdicts = {box: _verdict(answer) for box, answer in health.items()}
    counts = Counter(verdicts.values())
    summary = ", ".join(f"{counts[status]} {status}" for status in (*reversed(ORDER), "unknown") if counts[status])
    simulated = sum("simulated" in str(answer["ret"]) for answer in grains.values())
    text = [f"{len(rows)} boxes on {when}: {summary or 'none'}."]
    if simulated:
        text.append(f"The GPUs of {simulated} boxes are simulated.")
    chapters = [
        Chapter("Boxes", text, [_boxes(rows, verdicts)]),
        _faults(health),
        _releases(versions),
        _benchmarks(rows, grains, outlier_share),
    ]
    return html(TITLE, chapters, {**MEANING, "unknown": "the box does not answer, or cannot check"})


def _verdict(answer: Answer) -> str:
    ret = answer["ret"]
    return str(ret["verdict"]) if isinstance(ret, Mapping) and "verdict" in ret else "unknown"


def _boxes(rows: list[dict[str, Any]], verdicts: Mapping[str, str]) -> Table:
    order = {status: rank for rank, status in enumerate(("unknown", *reversed(ORDER)))}
    body = [
        [
            row["box"],
            verdicts.get(row["box"], "unknown"),
            row["model"] or ("" if row["problem"] else "no GPU"),
            row["driver"] or "",
            row["target"] or "",
            row["problem"] or "",
        ]
        for row in rows
    ]
    body.sort(key=lambda cells: (order.get(cells[1], 0), cells[0]))
    return Table(["box", "health", "GPUs", "driver", "system", "problem"], body)


def _faults(health: Mapping[str, Answer]) -> Chapter:
    body = []
    for box, answer in sorted(health.items()):
        ret = answer["ret"]
        if not isinstance(ret, Mapping) or "checks" not in ret:
            body.append([box, "", "unknown", "", reason(ret), ""])
            continue
        for check in ret["checks"]:
            if check["status"] not in ("ok", "not applicable"):
                gpu = "" if check.get("gpu") is None else f"GPU {check['gpu']}"
                body.append([box, check["check"], check["status"], gpu, check["evidence"], check.get("todo", "")])
    text = [] if body else ["All checks of gpu.health passed on all boxes."]
    return Chapter("Health", text, [Table(["box", "check", "verdict", "GPU", "evidence", "what to do"], body)])


def _releases(versions: Mapping[str, Answer]) -> Chapter:
    body = []
    for box, answer in sorted(versions.items()):
        ret = answer["ret"]
        if isinstance(ret, Mapping) and "commit" in ret:
            state = "accepted" if ret["accepted"] else "applied" if ret["applied"] else "installed"
            body.append([box, str(ret["commit"])[:12], state, str(ret.get("previous") or "")[:12]])
        else:
            body.append([box, "", "unknown", reason(ret)])
    return Chapter("Releases", [], [Table(["box", "release", "state", "previous release"], body)])


def _benchmarks(rows: list[dict[str, Any]], grains: Mapping[str, Answer], share: float) -> Chapter:
    results = {
        box: answer["ret"]["gpu_benchmark"]
        for box, answer in grains.items()
        if isinstance(answer["ret"], Mapping) and answer["ret"].get("gpu_benchmark")
    }
    numbers = boxes.medians(results)
    slow = boxes.slow_boxes(boxes.twins(rows), numbers, share)
    names = sorted({name for values in numbers.values() for name in values})
    body = [
        [box, *(f"{values[name]:.4g}" if name in values else "" for name in names)] for box, values in numbers.items()
    ]
    text = slow or (["No box is slower than boxes with the same GPUs."] if body else ["No box has run gpu.benchmark."])
    return Chapter("Benchmarks", text, [Table(["box", *names], body)])
