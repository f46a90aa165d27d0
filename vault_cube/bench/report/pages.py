"""`gpu.report`: render a benchmark result and a burn-in verdict as one self-contained HTML file, and as Markdown."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vault_cube.bench.judge.result import Machine, Metric, Result
from vault_cube.bench.report import plots
from vault_cube.settings.benchmark import Benchmark

STYLE = (Path(__file__).parent / "report.css").read_text

MEANING = {
    "pass": "reaches the threshold",
    "fail": "does not reach the threshold",
    "uncertain": "the interval contains the threshold",
    "not judged": "has no threshold",
    "fault": "could not be measured",
}


@dataclass
class Table:
    """A table of text cells: one header row, then the body rows."""

    head: Sequence[str]
    rows: list[list[str]]


@dataclass
class Chapter:
    """A section of the report: title, paragraphs, tables, plots."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)


def make(result: Result | None, burn: Mapping[str, Any] | None, settings: Benchmark) -> tuple[str, str]:
    """Return the report as HTML and as Markdown.

    result: a benchmark result, or None. burn: the verdict of a burn-in, or None. The report lists a missing one under
    "Not measured".
    """
    title = "Vault Cube: performance report"
    chapters = [_summary(result, burn)]
    if result:
        chapters += [_machine(result.machine, result), *_suites(result, settings)]
    elif burn and "machine" in burn:
        chapters.append(_machine(Machine.model_validate(burn["machine"]), None))
    if burn:
        chapters.append(_burn(burn, settings))
    chapters.append(_absent(result, burn))
    return _html(title, chapters), _markdown(title, chapters)


def _summary(result: Result | None, burn: Mapping[str, Any] | None) -> Chapter:
    chapter = Chapter("Verdict")
    rows = []
    if result:
        chapter.text.append(
            f"{result.name}: {result.verdict}. Measured {result.started} in {result.seconds:.0f} s, "
            f"{'quick' if result.quick else 'full'}, on {result.machine.accelerator}"
            f"{' (simulated)' if result.machine.simulated else ''}."
        )
        rows = [
            [
                verdict.name.replace("_", " "),
                verdict.said,
                number(verdict.value),
                interval(verdict.low, verdict.high),
                number(verdict.threshold),
                verdict.why,
            ]
            for verdict in result.verdicts
        ]
    if burn:
        why = "; ".join(burn["problems"]) or f"{span(burn['burnt_s'])} without a problem"
        rows.append(["burn-in", burn["said"], "", "", span(burn["asked_s"]), why])
    chapter.tables.append(Table(["check", "verdict", "median", "95 % interval", "threshold", "why"], rows))
    return chapter


def _machine(machine: Machine, result: Result | None) -> Chapter:
    rows = [
        ["processor", f"{machine.processor}, {machine.cores} cores"],
        ["memory", f"{machine.memory_gib:g} GiB"],
        ["system", f"{machine.system}, kernel {machine.kernel}"],
        ["load at the start", ", ".join(f"{value:g}" for value in machine.load)],
    ]
    if machine.image:
        rows.append(["image", ", ".join(f"{key} {value}" for key, value in machine.image.items())])
    if machine.driver:
        rows.append(["NVIDIA driver", machine.driver])
    rows += [[f"GPU {gpu.get('index', '')}", str(gpu.get("name", "unnamed"))] for gpu in machine.gpus]
    versions = [
        [name, ", ".join(f"{key} {value}" for key, value in suite.versions.items() if value)]
        for name, suite in (result.suites.items() if result else ())
        if any(suite.versions.values())
    ]
    return Chapter(
        "Machine",
        result.notes if result else [],
        [Table(["component", "description"], rows), Table(["suite", "versions"], versions)],
    )


def _suites(result: Result, settings: Benchmark) -> list[Chapter]:
    chapters = []
    for name, suite in result.suites.items():
        chapter = Chapter(
            {
                "ddp": "Training: DDP",
                "vllm": "Inference: vLLM",
                "tensorflow": "Training: TensorFlow",
                "matmul": "Ceilings",
            }.get(name, name)
        )
        chapters.append(chapter)
        if suite.status != "measured":
            chapter.text.append(f"{suite.status}: {suite.reason}")
            continue
        chapter.text.append(f"Measured in {suite.seconds:.0f} s on {suite.device}. Workload: {_flat(suite.workload)}.")
        chapter.tables.append(_numbers(suite.metrics))
        extra = {key: metric for key, metric in result.derived.items() if metric and _belongs(key, name)}
        if extra:
            chapter.tables.append(_numbers(extra))
        if suite.sensors:
            chapter.tables.append(_sensors(suite.sensors))
        threshold = settings.thresholds[result.machine.accelerator].ddp_efficiency
        chapter.plots += _plots(name, suite.metrics, int(suite.workload.get("devices", 1)), threshold)
    return chapters


def _belongs(key: str, suite: str) -> bool:
    return {"transformer": "ddp", "resnet": "ddp"}.get(
        key.split("_", maxsplit=1)[0], key.split("_", maxsplit=1)[0]
    ) == suite


def _plots(name: str, metrics: Mapping[str, Metric], devices: int, threshold: float | None) -> list[str]:
    svgs = []
    if name == "ddp" and devices > 1:
        kinds = {
            "efficiency": "weak",
            "efficiency_strong": "strong",
            "efficiency_shared": "shared",
            "efficiency_communication": "communication",
        }
        ratios = {
            model: {shown: metrics[f"{model}_{key}"] for key, shown in kinds.items() if f"{model}_{key}" in metrics}
            for model in ("transformer", "resnet")
            if f"{model}_efficiency" in metrics
        }
        svgs.append(plots.bars("efficiency", "Efficiency of scaling", ratios, threshold))
        lines = {}
        for kind in ("weak", "strong"):
            for model in ("transformer", "resnet"):
                if f"{model}_{kind}" in metrics and f"{model}_solo" in metrics:
                    gain = metrics[f"{model}_{kind}"].median / metrics[f"{model}_solo"].median
                    lines[f"{model}, {kind}"] = [(1, 1), (devices, gain)]
        svgs.append(plots.scaling("scaling", "Scaling", lines, devices))
    if name == "vllm":
        kinds = {
            "output": "Throughput",
            "first_token": "Time to first token",
            "between_tokens": "Time between tokens",
        }
        for key, title in kinds.items():
            chosen = {
                shown: metrics[f"{batch}_{key}"]
                for batch, shown in (("batch1", "batch 1"), ("saturated", "saturated"))
                if f"{batch}_{key}" in metrics
            }
            if chosen:
                svgs.append(plots.bars(f"vllm-{key}", title, {title: chosen}))
    if name == "matmul":
        for prefix, title in (("matmul_", "Matrix products"), ("copy_", "Copies")):
            # leave copies between devices to the table: n * (n - 1) bars would be unreadable
            chosen = {
                key.removeprefix(prefix): metric
                for key, metric in metrics.items()
                if key.startswith(prefix) and not key.startswith("copy_device_to_device")
            }
            if chosen:
                svgs.append(plots.bars(f"ceiling-{prefix[:-1]}", title, _by_device(chosen, devices)))
    return svgs


def _by_device(metrics: Mapping[str, Metric], devices: int) -> dict[str, dict[str, Metric]]:
    """Group metrics by device: `float32_0` is device 0's `float32`. A single device has no number in its names."""
    if devices < 2:
        return {"": {key.replace("_", " "): metric for key, metric in metrics.items()}}
    groups: dict[str, dict[str, Metric]] = {}
    for key, metric in metrics.items():
        kind, _, device = key.rpartition("_")
        groups.setdefault(f"device {device}", {})[kind.replace("_", " ")] = metric
    return groups


def _numbers(metrics: Mapping[str, Metric]) -> Table:
    rows = [
        [
            name.replace("_", " "),
            number(metric.median),
            interval(metric.low, metric.high),
            metric.unit,
            f"{len(metric.samples)}",
            f"{metric.variation:.1%}{' (noisy)' if metric.noisy else ''}",
        ]
        for name, metric in metrics.items()
    ]
    return Table(["metric", "median", "95 % interval", "unit", "samples", "variation"], rows)


def _sensors(sensors: Mapping[str, Any]) -> Table:
    rows = []
    units = {"utilisation": "", "power_w": "W", "temperature_c": "°C", "clock_mhz": "MHz", "memory_used_mib": "MiB"}
    for device, fields in sensors.items():
        for key, unit in units.items():
            if key in fields:
                spread = fields[key]
                name = key.rsplit("_", 1)[0].replace("_", " ")
                rows.append([device, name, number(spread["mean"]), interval(spread["least"], spread["most"]), unit])
        rows += [
            [device, f"throttled: {reason}", f"{share:.0%}", "", "of the time"]
            for reason, share in fields.get("throttle", {}).items()
        ]
    return Table(["device", "sensor, under load", "mean", "least to greatest", "unit"], rows)


def _burn(burn: Mapping[str, Any], settings: Benchmark) -> Chapter:
    chapter = Chapter("Burn-in")
    chapter.text.append(
        f"{burn['name']}: {burn['said']}. Ran {span(burn['burnt_s'])} of {span(burn['asked_s'])} "
        f"in {burn['boots']} boot(s){' (simulated)' if burn.get('simulated') else ''}."
    )
    chapter.text += burn["problems"]
    rows = []
    for device, fields in burn["devices"].items():
        work = burn["work"].get(device) or {}
        throttled = ", ".join(f"{reason} {share:.1%}" for reason, share in fields.get("throttle_share", {}).items())
        later = fields.get("clock_later_share")
        rows.append(
            [
                device,
                f"{work.get('products', 0):.0f}" if work else "",
                f"{work['wrong']:.0f}" if work else "",
                throttled or ("no" if "throttle_share" in fields else ""),
                f"{later:.1%}" if later else "",
                (", ".join(str(event["xid"]) for event in fields["xids"]) or "none") if "xids" in fields else "",
                number(fields.get("ecc_uncorrected")),
            ]
        )
    head = [
        "device",
        "products",
        "wrong values",
        "throttled",
        "clock after the first hour, relative",
        "XID",
        "uncorrected ECC",
    ]
    chapter.tables.append(Table(head, rows))
    named = (
        ("temperature_c", "Temperature", "°C"),
        ("power_w", "Power", "W"),
        ("clock_mhz", "Clock", "MHz"),
        ("tflops", "Throughput", "TFLOP/s"),
        ("utilisation", "Utilisation", "share"),
    )
    for key, title, unit in named:
        series = {device: fields[key]["curve"] for device, fields in burn["devices"].items() if key in fields}
        if series:
            chapter.plots.append(plots.curves(f"burn-{key.partition('_')[0]}", title, unit, series))
    if "temperature_c" in str(burn["devices"]):
        chapter.text.append(f"A burn-in stops automatically at {settings.stress.stop_celsius} °C.")
    return chapter


def _absent(result: Result | None, burn: Mapping[str, Any] | None) -> Chapter:
    """List what was not measured, and the reasons."""
    lines = []
    if result is None:
        lines.append("benchmark: there is no result; run `salt-call --local gpu.benchmark`")
    else:
        lines += [f"{name}: {suite.reason}" for name, suite in result.suites.items() if suite.status != "measured"]
        if not result.machine.gpus:
            lines.append("GPU utilisation, power, clocks and throttling: this machine has no GPU; the CPU was measured")
        if "ddp" in result.suites and not any("_efficiency" in key for key in result.suites["ddp"].metrics):
            lines.append("scaling: fewer than two devices took part in training")
        read = {key for suite in result.suites.values() for fields in suite.sensors.values() for key in fields}
        wanted = ("temperature", "power", "clock", "throttle")
        unread = [name for name in wanted if not any(key.startswith(name) for key in read)]
        if read and unread:
            lines.append(f"{', '.join(unread)}: the device has no such sensor")
    if burn is None:
        lines.append("burn-in: there is no finished burn-in; run `salt-call --local gpu.stress duration=24h`")
    elif not burn["whole"]:
        lines.append(f"burn-in: the last {span(burn['asked_s'] - burn['burnt_s'])}")
    return Chapter("Not measured", lines or ["Everything requested was measured."])


def _flat(workload: Any) -> str:
    if isinstance(workload, dict):
        return ", ".join(
            f"{key} ({_flat(value)})" if isinstance(value, dict) else f"{key} {_flat(value)}"
            for key, value in workload.items()
        )
    return f"{workload:g}" if isinstance(workload, float) else str(workload)


def number(value: float | None) -> str:
    """Format a number with four significant digits; None becomes an empty string."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"


def interval(low: float | None, high: float | None) -> str:
    """Format an interval by its lower and upper end; an empty string if either is None."""
    return "" if low is None or high is None else f"{number(low)} – {number(high)}"  # noqa: RUF001


def span(seconds: float) -> str:
    """Format a duration in seconds for reading: 45 s, 12 min, 23.5 h."""
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _html(title: str, chapters: list[Chapter]) -> str:
    body = [f"<h1>{html.escape(title)}</h1>"]
    for chapter in chapters:
        body.append(f"<section><h2>{html.escape(chapter.title)}</h2>")
        body += [f"<p>{html.escape(line)}</p>" for line in chapter.text]
        body += [_html_table(table) for table in chapter.tables if table.rows]
        if chapter.plots:
            body.append(
                '<div class="plots">' + "".join(f"<figure>{plot}</figure>" for plot in chapter.plots) + "</div>"
            )
        body.append("</section>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>\n{STYLE()}</style></head><body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    rows = []
    for row in table.rows:
        cells = "".join(
            f'<td class="said {cell.replace(" ", "-")}" title="{MEANING[cell]}">{cell}</td>'
            if cell in MEANING
            else f"<td>{html.escape(cell)}</td>"
            for cell in row
        )
        rows.append(f"<tr>{cells}</tr>")
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _markdown(title: str, chapters: list[Chapter]) -> str:
    lines = [f"# {title}"]
    for chapter in chapters:
        lines += ["", f"## {chapter.title}"]
        for line in chapter.text:
            lines += ["", line]
        for table in chapter.tables:
            if table.rows:
                lines += ["", _row(table.head), _row(["---"] * len(table.head)), *(_row(row) for row in table.rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
