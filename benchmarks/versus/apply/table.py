"""Print a result of measure.py as a Markdown table: `table.py RESULT.json`."""

import json
import sys
from pathlib import Path

NAMES = {
    "first": "no setting is made",
    "again": "all are made",
    "one file": "one file was changed",
    "ten files": "ten files were changed",
}


def table(result):
    """Return the table: a line per situation, and seconds of processor and wall time and ratios per tool."""
    tools = list(next(iter(result["times"].values())))
    versions = dict(zip(tools, result["versions"].items(), strict=True))
    lines = ["| | " + " | ".join(f"{name} {version}" for name, version in versions.values()) + " |"]
    lines.append("|---" * (len(tools) + 1) + "|")
    for situation, by_tool in result["times"].items():
        lines.append(f"| {NAMES[situation]} | " + " | ".join(cell(tool, by_tool[tool]) for tool in tools) + " |")
    return "\n".join(lines)


def cell(tool, times):
    text = f"{times['cpu']['median']:.1f} s, {times['wall']['median']:.1f} s"
    if tool == "salt":
        return text
    ratio = times["cpu"]["ratio"]
    interval = f" ({ratio['low']:.1f} to {ratio['high']:.1f})" if "low" in ratio else ""
    return f"{text}: {ratio['median']:.1f} ×{interval}"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
