"""The boxes of a fleet as tables: inventory, drift, and boxes that are slower than their twins."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vault_cube.drift.classes import REPAIRED
from vault_cube.errors import VaultCubeError
from vault_cube.fleet.rollout import SILENT, Answer, reason

COLUMNS = ("box", "target", "gpus", "model", "driver", "health", "benchmark", "benchmark_age_s", "uuids", "problem")
GRAINS = ("gpu", "gpu_health", "gpu_benchmark", "osfinger")
MAD_TO_SIGMA = 1.4826
"""The standard deviation of a normal distribution is its median absolute deviation times this."""
SIGMAS = 3


def inventory(answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Return one row per box, with the keys of COLUMNS; a value that a box did not report is None.

    answers: what grains.item returned for GRAINS.
    """
    rows = []
    for box, answer in sorted(answers.items()):
        grains = answer["ret"] if isinstance(answer["ret"], Mapping) else {}
        gpu = grains.get("gpu") or {}
        devices = gpu.get("devices", [])
        benchmark = grains.get("gpu_benchmark") or {}
        values = {
            "box": box,
            "target": grains.get("osfinger"),
            "gpus": gpu.get("count"),
            "model": model(devices),
            "driver": gpu.get("driver_version"),
            "health": (grains.get("gpu_health") or {}).get("verdict"),
            "benchmark": benchmark.get("verdict"),
            "benchmark_age_s": benchmark.get("age_s"),
            "uuids": [device.get("uuid") for device in devices],
            "problem": gpu.get("problem") if grains else reason(answer["ret"]),
        }
        rows.append({column: values[column] for column in COLUMNS})
    return rows


def model(devices: Iterable[Mapping[str, Any]]) -> str | None:
    """Return number and name of a box's GPUs, such as `4x NVIDIA H200`; None without a GPU."""
    names = [str(device.get("name", "unnamed")) for device in devices]
    return ", ".join(f"{names.count(name)}x {name}" for name in sorted(set(names))) or None


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an inventory as CSV; lists are separated by blanks.

    A cell that a spreadsheet would take for a formula begins with an apostrophe, because boxes name their GPUs
    themselves (OWASP, CSV injection).
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow([_cell(row[column]) for column in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def drift(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Return which boxes differ from their states and images, and in what.

    answers: what drift.report returned. Returns states (a state that would repair the difference -> boxes), unmanaged
    (a path or account that differs from the image, and no state repairs -> boxes), same (boxes without drift), and
    unknown (box -> why it cannot be compared, or not in full).
    """
    states: dict[str, list[str]] = {}
    unmanaged: dict[str, list[str]] = {}
    same, unknown = [], {}
    for box, answer in sorted(answers.items()):
        report = answer["ret"]
        if not isinstance(report, Mapping) or "findings" not in report:
            unknown[box] = reason(report)
            continue
        for finding in report["findings"]:
            repaired = finding["class"] == REPAIRED
            group, name = (states, finding["why"] or finding["what"]) if repaired else (unmanaged, finding["what"])
            names = group.setdefault(name, [])
            if box not in names:  # a state may own several files
                names.append(box)
        if answer["retcode"] not in (0, 2):
            unknown[box] = reason({"failed": [*report.get("notes", ()), *map(_unjudged, report.get("unjudged", ()))]})
        elif not report["findings"]:
            same.append(box)
    return {"states": states, "unmanaged": unmanaged, "same": same, "unknown": unknown}


def _unjudged(finding: Mapping[str, Any]) -> str:
    return f"{finding['what']}: {finding['change']}"


def verdict(ret: Any) -> str:
    """Return the verdict of a box's answer, or why it has none."""
    return str(ret["verdict"]) if isinstance(ret, Mapping) and "verdict" in ret else reason(ret)


def twins(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Group boxes by the number and model of their GPUs. rows: of `inventory`."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row["problem"] != SILENT:
            groups.setdefault(row["model"] or "no GPU", []).append(row["box"])
    return groups


def outliers(numbers: Mapping[str, float], share: float) -> dict[str, float]:
    """Return the boxes that are slower than their twins, each with its share of the median.

    A box is slower if it is below the median by more than `share`, and by more than three standard deviations, which
    are estimated from the median absolute deviation (Rousseeuw and Croux 1993). Fewer than three boxes have no median
    to compare with.
    """
    if len(numbers) < 3:
        return {}
    middle = statistics.median(numbers.values())
    sigma = statistics.median(abs(number - middle) for number in numbers.values()) * MAD_TO_SIGMA
    return {
        box: number / middle
        for box, number in sorted(numbers.items())
        if number < middle * (1 - share) and middle - number > SIGMAS * sigma
    }


def medians(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the medians of benchmarks by box and name. results: what gpu.benchmark returned, or its grain.

    All numbers of that summary are better if they are larger (vault_cube/bench/judge/summary.py).
    """
    return {
        box: {
            name: number["median"]
            for name, number in (result.get("numbers") or {}).items()
            if number.get("median") is not None
        }
        for box, result in sorted(results.items())
    }


def chosen(together: Any, known: Iterable[str]) -> list[str]:
    """Return the names of the boxes that train together. Raises VaultCubeError for a wrong list.

    together: names separated by commas, or a list of names. known: the boxes whose keys are accepted.
    """
    names = together if isinstance(together, list) else str(together or "").split(",")
    names = list(dict.fromkeys(str(name).strip() for name in names if str(name).strip()))
    unknown = [name[:80] for name in names if name not in known]
    if unknown:
        raise VaultCubeError(f"together: {', '.join(unknown)}: no such box: see `fleet.keys`")
    if len(names) < 2:
        raise VaultCubeError("together: name at least two boxes, separated by commas, and their rendezvous")
    return names


def trained(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Return what boxes measured together: verdicts (box -> verdict or reason), numbers, notes.

    answers: what gpu.benchmark returned. The numbers are there if all boxes measured; each box has all of them, so
    they are those of the first one.
    """
    verdicts = {box: verdict(answer["ret"]) for box, answer in sorted(answers.items())}
    results = [answer["ret"] for _, answer in sorted(answers.items()) if isinstance(answer["ret"], Mapping)]
    measured = len(results) == len(answers) and all(result.get("numbers") for result in results)
    bad = [f"{item['check']}: {item['evidence']}" for result in results for item in result.get("bad", ())]
    notes = [note for result in results for note in result.get("notes", ())]
    return {
        "verdicts": verdicts,
        "numbers": dict(results[0]["numbers"]) if measured else {},
        "notes": list(dict.fromkeys([*bad, *notes])),
    }


def slow_boxes(
    groups: Mapping[str, Sequence[str]], numbers: Mapping[str, Mapping[str, float]], share: float
) -> list[str]:
    """Return a line for each box and number that is below that of its twins.

    groups: of `twins`. numbers: of each box, the medians of its benchmark by name; larger is better.
    """
    lines = []
    for group, boxes in groups.items():
        names = sorted({name for box in boxes for name in numbers.get(box, {})})
        for name in names:
            values = {box: numbers[box][name] for box in boxes if name in numbers.get(box, {})}
            for box, part in outliers(values, share).items():
                lines.append(f"{box}: {name}: {part:.0%} of the median of {len(values)} boxes with {group}")
    return lines
