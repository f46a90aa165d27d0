"""`gpu.report`: render a benchmark result and a burn-in verdict as one self-contained HTML file, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jinja2

from vault_cube.bench.fields import BurnIn, Curve, Phases, Sensor, Summed
from vault_cube.bench.judge.burn_card import COUNTERS
from vault_cube.bench.judge.result import Machine, Metric, Result, Suite
from vault_cube.bench.report import plots
from vault_cube.settings.benchmark import Benchmark
from vault_cube.verdicts import ORDER

HERE = Path(__file__).parent
TITLE = "Vault Cube: performance report"
MEANING = {
    "ok": "reaches the threshold",
    "fault": "does not reach the threshold, or could not be measured",
    "warning": "needs attention",
    "uncertain": "the interval contains the threshold, or there is no figure to compare with",
    "not applicable": "has no threshold",
}
SUITES = {
    "matmul": "Matrix products",
    "copies": "Memory and links",
    "all_reduce": "All-reduce",
    "ddp": "Training: DDP",
    "ddp_boxes": "Training: DDP over several boxes",
    "tensorflow": "Training: TensorFlow",
    "vllm": "Inference: vLLM",
}
SENSORS: tuple[tuple[Sensor, str], ...] = (("power_w", "W"), ("temperature_c", "°C"), ("clock_mhz", "MHz"))
HOURLY: tuple[Literal["tflops", "clock_mhz", "power_w", "temperature_c"], ...] = (
    "tflops", "clock_mhz", "power_w", "temperature_c",
)  # fmt: skip
DERIVED = {"mfu": ("ddp", "tensorflow"), "roofline": ("vllm",), "tokens per joule": ("vllm",)}
"""First words of a derived metric -> the suites that it is shown with."""


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


def make(result: Result | None, burn: BurnIn | None, settings: Benchmark) -> tuple[str, str]:
    """Return the report as HTML and as Markdown.

    result: a benchmark result, or None. burn: the verdict of a burn-in, or None. The report lists a missing one under
    "Not measured".
    """
    chapters = [_summary(result, burn)]
    if result:
        chapters += [_machine(result.machine, result)]
        chapters += [_suite(name, suite, result, settings) for name, suite in result.suites.items()]
    elif burn and "machine" in burn:
        chapters.append(_machine(Machine.model_validate(burn["machine"]), None))
    if burn:
        chapters.append(_burn(burn, settings))
    chapters.append(_absent(result, burn))
    return html(TITLE, chapters, MEANING), _rendered("md", title=TITLE, chapters=chapters)


def html(title: str, chapters: Sequence[Chapter], meaning: Mapping[str, str]) -> str:
    """Return a self-contained page. meaning: what the verdicts in its tables mean."""
    style = (HERE / "report.css").read_text()
    return _rendered("html", title=title, chapters=chapters, meaning=meaning, style=style)


def _rendered(kind: str, **values: Any) -> str:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template(f"report.{kind}.j2").render(**values)


def _summary(result: Result | None, burn: BurnIn | None) -> Chapter:
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
                verdict.check,
                verdict.status,
                "" if verdict.gpu is None else f"GPU {verdict.gpu}",
                verdict.evidence,
                verdict.threshold,
                verdict.todo,
            ]
            for verdict in sorted(result.verdicts, key=lambda verdict: -ORDER.index(verdict.status))
        ]
    if burn:
        why = "; ".join(burn["problems"]) or f"{span(burn['burnt_s'])} without a problem"
        rows.append(["burn-in", burn["verdict"], "", why, span(burn["asked_s"]), ""])
    head = ["check", "verdict", "GPU", "evidence", "threshold", "what to do"]
    chapter.tables.append(Table(head, rows))
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


def _suite(name: str, suite: Suite, result: Result, settings: Benchmark) -> Chapter:
    chapter = Chapter(SUITES.get(name, name))
    if suite.status != "measured":
        chapter.text.append(f"{suite.status}: {suite.reason}")
        return chapter
    chapter.text.append(f"Measured in {suite.seconds:.0f} s on {suite.device}. Workload: {_flat(suite.workload)}.")
    extra = [
        metric
        for metric in result.derived
        for words, suites in DERIVED.items()
        if metric.quantity.startswith(words) and name in suites and _of_suite(metric, suite)
    ]
    chapter.tables.append(_numbers([*suite.metrics, *extra], suite.sensors))
    threshold = settings.thresholds[result.machine.accelerator].ddp_efficiency
    chapter.plots += _plots(name, suite, threshold if name == "ddp" else None)
    return chapter


def _of_suite(derived: Metric, suite: Suite) -> bool:
    return any(metric.subject == derived.subject for metric in suite.metrics)


def _plots(name: str, suite: Suite, threshold: float | None) -> list[str]:
    match name:
        case "ddp" | "ddp_boxes":
            return _scaling(suite, threshold)
        case "vllm":
            kinds = {"output": "Throughput", "ttft": "Time to first token", "tpot": "Time per output token"}
            loads = {key: [metric for metric in suite.of(key) if metric.device in (None, "cpu")] for key in kinds}
            return [
                plots.bars(f"vllm-{key}", title, {title: {metric.subject or "": metric for metric in loads[key]}})
                for key, title in kinds.items()
                if loads[key]
            ]
        case "matmul":
            return _bars("matmul", "Matrix products", suite.of("matmul"))
        case "copies":
            # copies between devices are left to the table: n * (n - 1) bars would be unreadable
            return _bars("copies", "Copies", [metric for metric in suite.metrics if not metric.peer])
        case "all_reduce":
            sizes = {metric.subject or "": metric for metric in suite.of("all reduce")}
            return [plots.bars("all-reduce", "All-reduce", {"bus bandwidth": sizes})] if sizes else []
    return []


def _scaling(suite: Suite, threshold: float | None) -> list[str]:
    devices = int(suite.workload.get("devices", 1))
    models = [metric.subject or "" for metric in suite.of("efficiency")]
    if not models:
        return []
    kinds = {
        "efficiency": "weak",
        "efficiency strong": "strong",
        "efficiency shared": "shared",
        "efficiency communication": "communication",
    }
    ratios = {
        model: {shown: metric for key, shown in kinds.items() if (metric := suite.single(key, model))}
        for model in models
    }
    lines = {}
    for model in models:
        fastest = max((metric.median for metric in suite.of("training alone", model)), default=0.0)
        for kind in ("weak", "strong"):
            rate = suite.single(f"training {kind}", model)
            if rate and fastest:
                lines[f"{model}, {kind}"] = [(1.0, 1.0), (float(devices), rate.median / fastest)]
    return [
        plots.bars("efficiency", "Efficiency of scaling", ratios, threshold),
        plots.scaling("scaling", "Scaling", lines, devices),
    ]


def _bars(name: str, title: str, metrics: Sequence[Metric]) -> list[str]:
    """Return one bar chart, with one colour per device."""
    groups: dict[str, dict[str, Metric]] = {}
    for metric in metrics:
        label = metric.subject if metric.quantity == "matmul" else " ".join(metric.label.split()[:-1])
        groups.setdefault(metric.device or "", {})[label or metric.quantity] = metric
    return [plots.bars(name, title, groups)] if groups else []


def _numbers(metrics: Sequence[Metric], sensors: Phases) -> Table:
    rows = [
        [
            metric.label,
            number(metric.median),
            interval(metric.low, metric.high),
            metric.unit,
            f"{len(metric.samples)}",
            f"{metric.variation:.1%}{' (noisy)' if metric.noisy else ''}",
            _beside(metric, sensors.get(metric.phase or "", {})),
        ]
        for metric in metrics
    ]
    return Table(["metric", "median", "95 % interval", "unit", "samples", "variation", "sensors"], rows)


def _beside(metric: Metric, readings: Mapping[str, Summed]) -> str:
    """Format the sensors that were read while a metric was measured: of its device, else the total power, the highest
    temperature, the lowest clock and the least utilisation of all devices."""
    chosen = [fields for device, fields in readings.items() if metric.device in (None, device)]
    reduce: dict[str, Callable[[list[float]], float]] = {"power_w": sum, "temperature_c": max, "clock_mhz": min}
    parts = [
        f"{reduce[key](values):.0f} {unit}"
        for key, unit in SENSORS
        if (values := [fields[key]["mean"] for fields in chosen if key in fields])
    ]
    busy = [fields["utilisation"]["mean"] for fields in chosen if "utilisation" in fields]
    parts += [f"{min(busy):.0%} busy"] if busy else []
    throttled = sorted({reason for fields in chosen for reason in fields.get("throttle", {})} - {"gpu_idle"})
    return ", ".join([*parts, *throttled])


def _burn(burn: BurnIn, settings: Benchmark) -> Chapter:
    chapter = Chapter("Burn-in")
    chapter.text.append(
        f"{burn['name']}: {burn['verdict']}. Ran {span(burn['burnt_s'])} of {span(burn['asked_s'])} "
        f"in {burn['boots']} boot(s){' (simulated)' if burn.get('simulated') else ''}."
    )
    chapter.text += burn["problems"]
    chapter.tables += [_burn_cards(burn), _burn_hours(burn)]
    named: tuple[tuple[Curve, str, str], ...] = (
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
    if any("temperature_c" in fields for fields in burn["devices"].values()):
        chapter.text.append(f"A burn-in stops automatically at {settings.stress.stop_celsius} °C.")
    return chapter


def _burn_cards(burn: BurnIn) -> Table:
    rows = []
    for device, fields in burn["devices"].items():
        work = burn["work"].get(device)
        throttled = ", ".join(f"{reason} {share:.1%}" for reason, share in fields.get("throttle_share", {}).items())
        later = fields.get("clock_later_share")
        rows.append(
            [
                device,
                burn["cards"][device]["verdict"],
                f"{work['products']:.0f}" if work else "",
                f"{work['wrong']:.0f}" if work else "",
                throttled or ("no" if "throttle_share" in fields else ""),
                f"{later:.1%}" if later else "",
                (", ".join(str(event["xid"]) for event in fields["xids"]) or "none") if "xids" in fields else "",
                *(number(fields.get(counter)) for counter in COUNTERS),
            ]
        )
    head = ["device", "verdict", "products", "wrong values", "throttled", "clock after the first hour, relative"]
    return Table([*head, "XID", "uncorrected ECC", "PCIe replays", "corrected PCIe errors"], rows)


def _burn_hours(burn: BurnIn) -> Table:
    rows = [
        [
            device,
            f"{hour['hour']}",
            hour["verdict"],
            number(hour["products"]),
            *(number(hour.get(key)) for key in HOURLY),
        ]
        for device, card in burn["cards"].items()
        for hour in card["hours"]
    ]
    head = ["device", "hour", "verdict", "products", "TFLOP/s", "clock, MHz", "power, W", "highest temperature, °C"]
    return Table(head, rows)


def _absent(result: Result | None, burn: BurnIn | None) -> Chapter:
    """List what was not measured, and the reasons."""
    lines = []
    if result is None:
        lines.append("benchmark: there is no result; run `salt-call --local gpu.benchmark`")
    else:
        lines += [f"{name}: {suite.reason}" for name, suite in result.suites.items() if suite.status != "measured"]
        if not result.machine.gpus:
            lines.append("GPU utilisation, power, clocks and throttling: this machine has no GPU; the CPU was measured")
        if "ddp" in result.suites and not result.suites["ddp"].of("efficiency"):
            lines.append("scaling: fewer than two devices took part in training")
        read = {
            key
            for suite in result.suites.values()
            for readings in suite.sensors.values()
            for fields in readings.values()
            for key in fields
        }
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
