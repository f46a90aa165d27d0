"""Write the tables of docs/comparison.md from the newest results. A test fails if they are stale."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs/comparison.md"
RESULTS = TOP / "benchmarks/results"
SITUATIONS = {
    "first": "no setting is made yet",
    "again": "nothing to do",
    "one file": "one file was changed",
    "ten files": "ten files were changed",
}
# results of the same day; mkosi was measured on the first only
BUILDS = ("2026-11-27-build.json", "2026-11-28-build.json")
MKOSI = "2026-11-27-mkosi-debian-12.json"


def page() -> str:
    """Return the page with its tables."""
    text = PAGE.read_text()
    for name, table in (("apply", apply()), ("no-op", no_op()), ("build", build()), ("base", base())):
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(marks, lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    return text


def newest(name: str) -> Any:
    """Return the newest result of a measurement."""
    return json.loads(max(RESULTS.glob(f"*-{name}.json")).read_text())


def result(name: str) -> Any:
    """Return a result by the name of its file, which may have been moved to `older/`."""
    return json.loads(next(RESULTS.glob(f"**/{name}")).read_text())


def apply() -> str:
    """Return the table of measure.py."""
    result = newest("versus-apply")
    lines = ["| | " + " | ".join(f"{name} {version}" for name, version in result["versions"].items()) + " |"]
    lines.append("|---" * (len(result["versions"]) + 1) + "|")
    for situation, tools in result["times"].items():
        cells = [_seconds(times) + ("" if tool == "salt" else f": {_ratio(times)}") for tool, times in tools.items()]
        lines.append(f"| {SITUATIONS[situation]} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _footnote(result)])


def no_op() -> str:
    """Return the table of no_op.py."""
    result = newest("no-op")
    lines = ["| | before | now | ratio |", "|---|---|---|---|"]
    for situation, times in result["times"].items():
        seconds = [_seconds({key: times[key][name] for key in ("cpu", "wall")}) for name in ("before", "now")]
        ratio = times["cpu"]["ratio"]
        interval = f" ({ratio['low']:.2f} to {ratio['high']:.2f})" if "low" in ratio else ""
        lines.append(f"| {situation} | {' | '.join(seconds)} | {ratio['median']:.2f}{interval} |")
    return "\n".join([*lines, "", _footnote(result)])


def build() -> str:
    """Return the table of whole builds."""
    days = [result(name) for name in BUILDS]
    mkosi = result(MKOSI)
    packed = sum(part["seconds"] for part in mkosi["packed"].values())
    disks = [part["seconds"] for part in mkosi["builds"]]
    lines = [
        "| | floor | mkosi " + mkosi["mkosi"].partition("-")[0] + " | Vault Cube | Vault Cube to the floor |",
        "|---|---|---|---|---|",
    ]
    for number, day in enumerate(days):
        theirs = f"{disks[0] + packed:.0f} s, {disks[1] + packed:.0f} s" if number == 0 else "not measured"
        floor, ours = day["floor"]["whole"], day["ours"]["whole"]
        lines.append(f"| {day['date']} | {floor:.0f} s | {theirs} | {ours:.0f} s | {ours / floor:.2f} |")
    return "\n".join(lines)


def base() -> str:
    """Return the table of mkosi_base.py."""
    result = newest("mkosi-base-debian-12")
    names = {
        "mmdebstrap": "mmdebstrap",
        "mkosi": f"mkosi {result['mkosi'].partition('~')[0].partition('-')[0]}",
        "vault-cube": "Vault Cube",
    }
    lines = ["| | processor | wall | wall, to Vault Cube |", "|---|---|---|---|"]
    for tool, name in names.items():
        cpu, wall = (result["times"][tool][unit] for unit in ("cpu", "wall"))
        seconds = [f"{unit['median']:.0f} s ({unit['low']:.0f} to {unit['high']:.0f})" for unit in (cpu, wall)]
        ratio = wall["ratio"]
        ratios = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        lines.append(f"| {name} | {' | '.join(seconds)} | {ratios} |")
    rounds = len(result["times"]["mkosi"]["wall"]["samples"])
    note = f"Measured on {result['date'][:10]} in {rounds} rounds, {result['packages']} packages"
    return "\n".join([*lines, "", f"{note}; in brackets the least and the most."])


def _seconds(times: dict[str, Any]) -> str:
    return f"{times['cpu']['median']:.2f} s, {times['wall']['median']:.2f} s"


def _ratio(times: dict[str, Any]) -> str:
    ratio = times["cpu"]["ratio"]
    interval = f" ({ratio['low']:.1f} to {ratio['high']:.1f})" if "low" in ratio else ""
    return f"{ratio['median']:.1f} times{interval}"


def _footnote(result: Any) -> str:
    load = result["load_average"]
    rounds = len(result["samples"]) // len(
        {(s.get("tool", s.get("checkout")), s["situation"]) for s in result["samples"]}
    )
    text = f"Measured on {result['date']} in {rounds} rounds, {result['machine']['processor']}, load average "
    text += f"{load['before']:.0f} at the beginning and {load['after']:.0f} at the end"
    return f"{text}: {result['note']}." if result.get("note") else f"{text}."


if __name__ == "__main__":
    PAGE.write_text(page())
