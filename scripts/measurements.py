"""The page of measurements and its plots, from the result files in benchmarks/results/, by the standard library only.

`reference.py` writes the page; `docs/site/hooks.py` puts the plots in it when the site is built.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
RESULTS = TOP / "benchmarks/results"
OLDER = "older"
"""Folder below the results for files that a newer one of the same subject replaces."""
PLOT = re.compile(r"<!-- plot: ([a-z0-9-]+) -->")
SUFFIXES = {"_ms": "ms", "_s": "s", "_mib": "MiB", "_c": "°C", "_w": "W", "_mhz": "MHz", "tflops": "TFLOP/s"}
"""Ends of names in result files -> units."""
UNITS = {"seconds": "s", "wall": "s", "cpu": "s"}
GROUPS = {"cases", "devices", "metrics", "suites", "times"}
"""Names in result files that group others, and say nothing themselves."""
SKIPPED = {"machine", "samples", "limits", "before"}
MOST_BARS, MOST_ROWS, MOST_OLDER_ROWS = 14, 40, 6
STAGES = {"whole": "all stages", "forms": "packed files", "papers": "SBOMs, provenance"}
"""Names of stages in result files -> names in the table."""


@dataclass(frozen=True)
class Row:
    """One measured value with its interval, or the range of its samples; None if the file has none."""

    case: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Subject:
    """What a group of result files measures. files: pattern of their names without the date."""

    name: str
    title: str
    files: str
    command: str
    text: str
    rows: Callable[[Mapping[str, Any]], Iterable[Row]]
    plotted: str = ""
    """Pattern of the rows in the plot; empty: no plot."""


def medians(node: Any, path: tuple[str, ...] = (), unit: str = "") -> Iterator[Row]:
    """Yield a row for each mapping with a median, named by its path, with the interval or the range beside it."""
    if not isinstance(node, Mapping):
        return
    unit = str(node.get("unit", unit))
    if isinstance(node.get("median"), int | float):
        own = next((UNITS[part] for part in reversed(path) if part in UNITS), "")
        end = next((end for end in SUFFIXES if path and path[-1].endswith(end)), "")
        low, high = (node.get(a, node.get(b)) for a, b in (("low", "least"), ("high", "most")))
        names = [*path[:-1], path[-1].removesuffix(end) or path[-1]] if path else []
        names = [name for name in names if name not in GROUPS]
        # matmul · matmul_float8
        words = [name.replace("_", " ") for name in names if not any(f"{name}_" in other for other in names)]
        yield Row(" · ".join(words), node["median"], own or SUFFIXES.get(end) or unit.partition(";")[0], low, high)
        return
    for name, value in node.items():
        if name not in SKIPPED:
            yield from medians(value, (*path, str(name)), unit)


def build(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the stages of a build, its sum, the sum of the lower bound, and the builds after a change in layer 5."""
    for side, title in (("ours", "Vault Cube"), ("floor", "lower bound")):
        for stage, seconds in result[side].items():
            yield Row(f"{title} · {STAGES.get(stage, stage)}", seconds, "s")
    yield Row("ratio of the two", result["ratio"], "")
    changes = sorted(change["whole"] for change in result.get("a change in layer 5", ()))
    if changes:
        yield Row("after a change in layer 5", changes[len(changes) // 2], "s", changes[0], changes[-1])


def mkosi(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the two builds, and the time and size of the packed files."""
    for number, run in enumerate(result["builds"], 1):
        yield Row(f"mkosi {result['mkosi']} · raw disk, build {number}", run["seconds"], "s")
    for name, packed in result["packed"].items():
        yield Row(f"mkosi {result['mkosi']} · {name}", packed["seconds"], "s")
        yield Row(f"mkosi {result['mkosi']} · size of {name}", round(packed["bytes"] / 1e9, 2), "GB")


def sandboxes(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the ratio of each rate with the sandbox to that without."""
    for name, rate in result["rates"].items():
        ratio = rate["ratio"]
        yield Row(name, ratio["median"], "times the rate without", ratio.get("low"), ratio.get("high"))


def unchanged(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the time to compute all keys, and that of `make image` when nothing has changed."""
    yield from medians(result)
    runs = sorted(result["unchanged_make_image"]["wall_s"])
    yield Row("make image, nothing changed", runs[len(runs) // 2], "s", runs[0], runs[-1])


def harness(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the ratio of our rate to that of the plain program, and both rates."""
    ratio = result["ratio"]
    yield Row(f"{result['name']} · ratio, {ratio['pairs']} pairs", ratio["median"], "", ratio["low"], ratio["high"])
    sides = {"ours": "our rate", "theirs": "rate of the plain program", "bench": "rate of vllm bench"}
    for side, rate in result["medians"].items():
        yield Row(f"{result['name']} · {sides[side]}", rate, result["samples"]["unit"])


def cards(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the metrics of a benchmark, or the products and the mean power of a burn-in."""
    yield from medians(result)
    for device, work in result.get("work", {}).items():
        yield Row(f"burn-in · {device} · products compared", work["products"], "")
        yield Row(f"burn-in · {device} · wrong products", work["wrong"], "")


def fleet(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield, for each number of boxes, the time of each command and the memory."""
    for size in result["results"]:
        for command, figures in size["commands"].items():
            yield Row(f"{size['boxes']} boxes · {command}", figures["median_s"], "s")
            if "master_cpu_s" in figures:
                yield Row(
                    f"{size['boxes']} boxes · {command}, processor time of the master", figures["master_cpu_s"], "s"
                )
        for process, memory in size["memory_mib"].items():
            yield Row(f"{size['boxes']} boxes · memory of {process}", memory, "MiB")


def twice(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the metrics of a benchmark, or of two benchmarks after each other."""
    if "numbers" not in result:
        yield from medians(result)
        return
    for name, both in result["numbers"].items():
        for run in ("first", "second"):
            yield from medians(both[run], (name.replace(".", " · "), f"{run} run"), both["unit"])


def kills(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield how many builds were killed, and after how many of them the image had the same bytes."""
    for name in ("build", "root"):
        killed = result[name]["kills"]
        yield Row(f"{name} · killed", len(killed), "builds")
        yield Row(f"{name} · same bytes afterwards", sum(kill["same"] for kill in killed), "builds")


SUBJECTS = (
    Subject(
        "build", "A build", "build", "sudo .venv/bin/python benchmarks/build.py",
        "From a filled store to `qcow2` and `raw.zst`, without downloads and boot test. The lower bound writes the "
        "same packages and wheels by plain commands, without layers, states, seal or checks.",
        build, r"all stages|change",
    ),
    Subject(
        "mkosi-base", "The packages of the base layer with mkosi", "mkosi-base.*",
        "sudo .venv/bin/python benchmarks/versus/mkosi_base.py --results benchmarks/results",
        "mkosi and mmdebstrap install packages; Vault Cube also applies, seals and records its root and base layers.",
        medians, r"wall$",
    ),
    Subject(
        "mkosi", "The same packages and wheels with mkosi", "mkosi.*",
        "sudo .venv/bin/python benchmarks/versus/mkosi_build.py --results benchmarks/results",
        "[What each does that the other does not](../benchmarks/results/2026-11-27-mkosi.md).",
        mkosi, r"raw disk|· (raw\.zst|qcow2)$",
    ),
    Subject(
        "keys", "A build with nothing to do", "keys", ".venv/bin/python benchmarks/keys.py",
        "The time to decide that the image is up to date.", unchanged,
    ),
    Subject(
        "apply", "Applying the states", r"(no-op|.*apply.*)", "sudo .venv/bin/python benchmarks/no_op.py",
        "`state.apply` in the tree of an image.", medians, r"wall|seconds",
    ),
    Subject(
        "gpu-cost", "Reading the GPUs", "gpu-cost", ".venv/bin/python benchmarks/gpu_cost.py",
        "Wall time, and CPU time of the caller and its child, with the fake NVML of the tests.", medians,
        r"^(?!.*(hang|salt-call)).*wall",
    ),
    Subject(
        "gpu-cost-h200", "Reading one H200", "h200-gpu-cost", ".venv/bin/python benchmarks/gpu_cost.py --own",
        "With NVIDIA's driver.", medians,
    ),
    Subject(
        "h200", "One H200: matrix products and training", "h200-training",
        "sudo salt-call --local gpu.benchmark suite=matmul,ddp quick=True",
        "[Machine, commands and NVIDIA's own figures](../benchmarks/results/2026-11-27-h200.md).", cards,
        r"^matmul (?!·)",
    ),
    Subject(
        "h200-inference", "One H200: vLLM", "h200-inference",
        "sudo salt-call --local gpu.benchmark suite=matmul,vllm quick=True", "", cards, r"output$",
    ),
    Subject("h200-burn", "One H200: burn-in", "h200-burn", "sudo salt-call --local gpu.stress duration=30s", "", cards),
    Subject(
        "cpu", "The frameworks on a processor", "gpu-benchmark.*", "make benchmark",
        "Shows that everything runs and how far two runs agree; the machine was busy.", twice,
    ),
    Subject(
        "harness", "Cost of the benchmark's own code", "versus-(ddp|vllm).*",
        ".venv/bin/python benchmarks/versus/record.py ddp_plain",
        "Our rate beside that of a plain program, alternating. A ratio of 1 means that our code costs nothing.",
        harness,
    ),
    Subject(
        "fleet", "A fleet under one master", "fleet(-[0-9]+)?",
        "sudo .venv/bin/python benchmarks/fleet.py --boxes 10 25 50",
        "Minions, master, salt-api and nginx on one machine, each box in a network namespace with fake GPUs.", fleet,
    ),
    Subject(
        "sandbox", "Training and vLLM in the sandbox of the units", "sandbox",
        "sudo .venv/bin/python benchmarks/sandbox.py --results benchmarks/results",
        "On the processor, under the image's own systemd in a container, with and without the sandbox in turn. "
        "A ratio of 1 means that the sandbox costs nothing.",
        sandboxes,
    ),
    Subject(
        "kills", "Killed builds", "kills",
        "VAULT_CUBE_KILLS=20 .venv/bin/pytest -m slow tests/integration/test_kill.py",
        "A build is killed at a random moment and continued.", kills,
    ),
)  # fmt: skip
OTHER = Subject("other", "Other measurements", ".*", "", "", medians)


@dataclass(frozen=True)
class Result:
    """A result file."""

    path: Path
    content: Mapping[str, Any]

    @property
    def date(self) -> str:
        """The date in the file's name."""
        return self.path.name[:10]


def results(folder: Path = RESULTS) -> dict[str, tuple[Subject, list[Result]]]:
    """Return each subject with its result files, newest first; subjects without a file are left out."""
    grouped: dict[str, tuple[Subject, list[Result]]] = {}
    for subject in (*SUBJECTS, OTHER):
        grouped[subject.name] = (subject, [])
    for file in sorted(
        folder.glob("**/*.json"), key=lambda path: (path.name[:10], path.parent == folder), reverse=True
    ):
        kind = file.stem[11:]
        subject = next((subject for subject in SUBJECTS if re.fullmatch(subject.files, kind)), OTHER)
        grouped[subject.name][1].append(Result(file, json.loads(file.read_text())))
    return {name: (subject, files) for name, (subject, files) in grouped.items() if files}


def page(folder: Path = RESULTS) -> str:
    """Render the page: one table per subject, newest first, each with its command."""
    grouped = results(folder)
    lines = [
        "# Measurements",
        "",
        "Generated by `make docs-reference` from `benchmarks/results/`: do not edit.",
        "",
        "Each subject has one table, newest first, and the command that measures it. *Interval* is the 95 % interval",
        "of the median, or the range of the samples. Older files are in `benchmarks/results/older/`.",
        "What the benchmark of a box measures, and how, is in [Benchmarks and burn-in](benchmarks.md).",
    ]
    for subject, files in grouped.values():
        lines += ["", f"## {subject.title}", "", *([subject.text, ""] if subject.text else [])]
        commands = list(dict.fromkeys(str(file.content.get("command") or subject.command) for file in files))
        if any(commands):
            lines += ["```sh", *filter(None, commands), "```"]
        if subject.plotted:
            lines += ["", f"<!-- plot: {subject.name} -->"]
        lines += ["", "| date | case | median | interval | unit | machine, load |", "|---|---|---:|---|---|---|"]
        lines += _table(subject, files[0], MOST_ROWS)
        for file in files[1:]:
            lines += _table(subject, file, MOST_OLDER_ROWS)
    return "\n".join(lines) + "\n"


def _table(subject: Subject, file: Result, most: int) -> Iterator[str]:
    """Yield the rows of a file; if there are more than `most`, only those of the plot, and how many are left out."""
    link = f"[{file.date}](../{file.path.relative_to(TOP) if file.path.is_relative_to(TOP) else file.path.name})"
    rows = list(subject.rows(file.content))
    chosen = rows
    if len(rows) > most:
        chosen = [row for row in rows if subject.plotted and re.search(subject.plotted, row.case)] or rows
    chosen = chosen[:most]
    for number, row in enumerate(chosen):
        interval = f"{_number(row.low)} to {_number(row.high)}" if row.low is not None and row.high is not None else ""
        cells = (link, row.case.replace("|", "\\|"), _number(row.value), interval, row.unit, machine(file.content))
        yield "| " + " | ".join(cells if number == 0 else ("", *cells[1:-1], "")) + " |"
    if len(rows) > len(chosen):
        yield f"| | {len(rows) - len(chosen)} more in the file | | | | |"


def machine(content: Mapping[str, Any]) -> str:
    """Describe the machine of a result in a few words, with its load before the measurement."""
    own = content.get("machine", "")
    if isinstance(own, str):
        return own
    gpus = own.get("gpus") or []
    processors = f"{own.get('cores') or own.get('cpus')} cores"
    load = content.get("load_average") or own.get("load") or own.get("load_1m")
    if isinstance(load, Mapping):
        load = load.get("before")
    load = load[0] if isinstance(load, list) else load
    parts = [*(["fake GPUs"] if own.get("simulated") else []), *(["GPU"] if gpus else []), processors]
    return ", ".join([*parts, *([f"load {float(load):.1f}"] if isinstance(load, int | float) else [])])


def _number(value: float | None) -> str:
    """Write a number with three to four significant digits, and without an exponent."""
    if value is None:
        return ""
    if value == 0 or isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}" if abs(value) >= 1 else f"{value:.3g}"


# ---- plots


def with_plots(markdown: str, folder: Path = RESULTS) -> str:
    """Replace the marks `<!-- plot: NAME -->` in a page by plots."""
    grouped = results(folder) if PLOT.search(markdown) else {}

    def drawn(match: re.Match[str]) -> str:
        subject, files = grouped[match[1]]
        rows = [row for row in subject.rows(files[0].content) if re.search(subject.plotted, row.case)]
        return bars(f"{subject.title}, {files[0].date}", rows)

    return PLOT.sub(drawn, markdown)


def bars(title: str, rows: list[Row]) -> str:
    """Draw rows as horizontal bars with their intervals: SVG whose colours are those of the page (site.css).

    Only rows with the unit of the first one are drawn, because they share an axis.
    """
    rows = [row for row in rows if row.unit == rows[0].unit][:MOST_BARS]
    width, height = 320, 24
    label = 16 + 7 * max((len(row.case) for row in rows), default=0)
    numbers = [f"{_number(row.value)} {row.unit}".strip() for row in rows]
    right = 16 + 8 * max(map(len, numbers), default=0)
    most = max((row.high or row.value for row in rows), default=1) or 1
    total = height * len(rows) + 8
    out = [
        f'<div class="plot"><svg role="img" viewBox="0 0 {label + width + right} {total}" '
        f'aria-label="{html.escape(title, quote=True)}">'
    ]
    for number, row in enumerate(rows):
        top, length = number * height + 4, row.value / most * width
        middle = top + height / 2
        out.append(f'<text x="{label - 8}" y="{middle + 4:.0f}" text-anchor="end">{html.escape(row.case)}</text>')
        out.append(f'<rect x="{label}" y="{top + 4}" width="{length:.1f}" height="{height - 8}"/>')
        end = length
        if row.low is not None and row.high is not None:
            end = max(length, row.high / most * width)
            left = label + row.low / most * width
            out.append(f'<path d="M{left:.1f} {middle}H{label + row.high / most * width:.1f}"/>')
        out.append(f'<text x="{label + end + 6:.1f}" y="{middle + 4:.0f}">{html.escape(numbers[number])}</text>')
    return "\n".join([*out, f"</svg><p>{html.escape(title)}</p></div>"])
