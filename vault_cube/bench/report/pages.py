"""`gpu.report`: a result and a burn as one HTML file that needs nothing else, and as Markdown."""

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
    "uncertain": "the interval holds the threshold",
    "not judged": "shown, without a threshold",
    "fault": "could not be measured",
}


@dataclass
class Table:
    """Head and rows, all text."""

    head: Sequence[str]
    rows: list[list[str]]


@dataclass
class Chapter:
    """A heading, and what stands below it."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)


def make(result: Result | None, burn: Mapping[str, Any] | None, settings: Benchmark) -> tuple[str, str]:
    """Returns HTML and Markdown. result, burn: what there is; either may be missing, and the report says so."""
    title = "Vault Cube: proof of performance"
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
                one.name.replace("_", " "),
                one.said,
                number(one.value),
                interval(one.low, one.high),
                number(one.threshold),
                one.why,
            ]
            for one in result.verdicts
        ]
    if burn:
        why = "; ".join(burn["problems"]) or f"{span(burn['burnt_s'])} without a finding"
        rows.append(["burn-in", burn["said"], "", "", span(burn["asked_s"]), why])
    chapter.tables.append(Table(["question", "verdict", "median", "95 % interval", "threshold", "why"], rows))
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
        [Table(["part", "what"], rows), Table(["suite", "versions"], versions)],
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
        chapter.text.append(f"In {suite.seconds:.0f} s on {suite.device}. Workload: {_said(suite.workload)}.")
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
    made = []
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
        made.append(plots.bars("efficiency", "Efficiency of scaling", ratios, threshold))
        lines = {}
        for kind in ("weak", "strong"):
            for model in ("transformer", "resnet"):
                if f"{model}_{kind}" in metrics and f"{model}_solo" in metrics:
                    gain = metrics[f"{model}_{kind}"].median / metrics[f"{model}_solo"].median
                    lines[f"{model}, {kind}"] = [(1, 1), (devices, gain)]
        made.append(plots.scaling("scaling", "Scaling", lines, devices))
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
                made.append(plots.bars(f"vllm-{key}", title, {title: chosen}))
    if name == "matmul":
        for prefix, title in (("matmul_", "Matrix products"), ("copy_", "Copies")):
            # the copies between devices are a table's matter: n * (n - 1) bars are no picture
            chosen = {
                key.removeprefix(prefix): metric
                for key, metric in metrics.items()
                if key.startswith(prefix) and not key.startswith("copy_device_to_device")
            }
            if chosen:
                made.append(plots.bars(f"ceiling-{prefix[:-1]}", title, _by_device(chosen, devices)))
    return made


def _by_device(metrics: Mapping[str, Metric], devices: int) -> dict[str, dict[str, Metric]]:
    """`float32_0` is device 0's float32; a single device has no number."""
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
            number(one.median),
            interval(one.low, one.high),
            one.unit,
            f"{len(one.samples)}",
            f"{one.variation:.1%}{' (noisy)' if one.noisy else ''}",
        ]
        for name, one in metrics.items()
    ]
    return Table(["number", "median", "95 % interval", "unit", "repeats", "variation"], rows)


def _sensors(sensors: Mapping[str, Any]) -> Table:
    rows = []
    units = {"utilisation": "", "power_w": "W", "temperature_c": "°C", "clock_mhz": "MHz", "memory_used_mib": "MiB"}
    for device, fields in sensors.items():
        for key, unit in units.items():
            if key in fields:
                one = fields[key]
                name = key.rsplit("_", 1)[0].replace("_", " ")
                rows.append([device, name, number(one["mean"]), interval(one["least"], one["most"]), unit])
        rows += [
            [device, f"throttled: {reason}", f"{share:.0%}", "", "of the time"]
            for reason, share in fields.get("throttle", {}).items()
        ]
    return Table(["device", "while it trained or served", "mean", "least to most", "unit"], rows)


def _burn(burn: Mapping[str, Any], settings: Benchmark) -> Chapter:
    chapter = Chapter("Burn-in")
    chapter.text.append(
        f"{burn['name']}: {burn['said']}. Burnt {span(burn['burnt_s'])} of {span(burn['asked_s'])} in "
        f"{burn['boots']} part(s) "
        f"between boots{' (simulated)' if burn.get('simulated') else ''}."
    )
    chapter.text += burn["problems"]
    rows = []
    for device, found in burn["devices"].items():
        work = burn["work"].get(device) or {}
        throttled = ", ".join(f"{reason} {share:.1%}" for reason, share in found.get("throttle_share", {}).items())
        later = found.get("clock_later_share")
        rows.append(
            [
                device,
                f"{work.get('products', 0):.0f}" if work else "",
                f"{work['wrong']:.0f}" if work else "",
                throttled or ("none seen" if "throttle_share" in found else ""),
                f"{later:.1%}" if later else "",
                (", ".join(str(one["xid"]) for one in found["xids"]) or "none") if "xids" in found else "",
                number(found.get("ecc_uncorrected")),
            ]
        )
    head = ["device", "products", "wrong values", "throttled", "clock after the first hour", "XID", "uncorrected ECC"]
    chapter.tables.append(Table(head, rows))
    named = (
        ("temperature_c", "Temperature", "°C"),
        ("power_w", "Power", "W"),
        ("clock_mhz", "Clock", "MHz"),
        ("tflops", "Computed", "TFLOP/s"),
        ("utilisation", "Utilisation", "share"),
    )
    for key, title, unit in named:
        series = {device: found[key]["curve"] for device, found in burn["devices"].items() if key in found}
        if series:
            chapter.plots.append(plots.curves(f"burn-{key.partition('_')[0]}", title, unit, series))
    if "temperature_c" in str(burn["devices"]):
        chapter.text.append(f"It stops by itself at {settings.stress.stop_celsius} °C.")
    return chapter


def _absent(result: Result | None, burn: Mapping[str, Any] | None) -> Chapter:
    """What was not measured, and why; nobody has to guess."""
    lines = []
    if result is None:
        lines.append("benchmark: there is no result; `salt-call --local gpu.benchmark` makes one")
    else:
        lines += [f"{name}: {one.reason}" for name, one in result.suites.items() if one.status != "measured"]
        if not result.machine.gpus:
            lines.append("GPU utilisation, power, clocks and throttling: there is no GPU, the processor was measured")
        if "ddp" in result.suites and not any("_efficiency" in key for key in result.suites["ddp"].metrics):
            lines.append("scaling: fewer than two devices were trained on")
        read = {key for one in result.suites.values() for fields in one.sensors.values() for key in fields}
        wanted = ("temperature", "power", "clock", "throttle")
        unread = [name for name in wanted if not any(key.startswith(name) for key in read)]
        if read and unread:
            lines.append(f"{', '.join(unread)}: the device has no such sensor")
    if burn is None:
        lines.append("burn-in: there is no finished burn; `salt-call --local gpu.stress duration=24h` makes one")
    elif not burn["whole"]:
        lines.append(f"burn-in: {span(burn['asked_s'] - burn['burnt_s'])} of it")
    return Chapter("Not measured", lines or ["Everything that was asked for was measured."])


def _said(workload: Any) -> str:
    if isinstance(workload, dict):
        return ", ".join(
            f"{key} ({_said(value)})" if isinstance(value, dict) else f"{key} {_said(value)}"
            for key, value in workload.items()
        )
    return f"{workload:g}" if isinstance(workload, float) else str(workload)


def number(value: float | None) -> str:
    """Four significant digits; a number that is not there is an empty cell."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"


def interval(low: float | None, high: float | None) -> str:
    """Its lower and upper end."""
    return "" if low is None or high is None else f"{number(low)} – {number(high)}"  # noqa: RUF001


def span(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 23.5 h."""
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
