"""Plots as SVG that inherits colours from the page, so that print and dark mode are the page's matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pygal
from pygal.style import Style

from vault_cube.bench.judge.result import Metric

# distinguishable for colour-blind readers, on white and on near-black: Okabe and Ito (2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
SIZE = {"width": 760, "height": 320}


def _chart(kind: type[Any], name: str, title: str, unit: str, **more: Any) -> Any:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="currentColor",
        foreground_strong="currentColor",
        foreground_subtle="currentColor",
        guide_stroke_color="rgba(128,128,128,.35)",
        major_guide_stroke_color="rgba(128,128,128,.35)",
        colors=COLOURS,
        opacity=".85",
        font_family="inherit",
        title_font_size=15,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=12,
    )
    chart = kind(
        style=style,
        js=(),
        disable_xml_declaration=True,
        title=title,
        y_title=unit,
        legend_at_bottom=True,
        legend_box_size=10,
        margin=8,
        truncate_legend=-1,
        truncate_label=-1,
        **SIZE,
        **more,
    )
    # its own is random: the same result makes the same page
    chart.uuid = f"plot-{name}"
    return chart


def bars(name: str, title: str, groups: Mapping[str, Mapping[str, Metric]], threshold: float | None = None) -> str:
    """Medians as bars with their 95 % intervals, a colour a group; an optional threshold as a labelled line."""
    every = [metric for group in groups.values() for metric in group.values()]
    labels = list(dict.fromkeys(label for group in groups.values() for label in group))
    # the intervals' ends must lie inside the plot
    most = 1.08 * max([metric.high or metric.median for metric in every] + ([threshold] if threshold else []))
    if threshold is not None:
        title += f" (threshold {threshold:g})"
    chart = _chart(pygal.Bar, name, title, every[0].unit, range=(0, most), show_legend=len(groups) > 1)
    # one bar a label has room for its number
    alone = next(iter(groups.values())) if len(groups) == 1 else {}
    chart.x_labels = [f"{label}: {alone[label].median:.4g}" if label in alone else label for label in labels]
    for label, group in groups.items():
        chart.add(label, [_bar(group[one]) if one in group else None for one in labels])
    if threshold is not None:
        chart.y_labels = [0, threshold, 1]
    return _svg(chart)


def _bar(metric: Metric) -> dict[str, Any]:
    bar: dict[str, Any] = {"value": metric.median}
    if metric.low is not None:
        bar["ci"] = {"low": metric.low, "high": metric.high}
    return bar


def scaling(name: str, title: str, curves: Mapping[str, Sequence[tuple[float, float]]], devices: int) -> str:
    """Throughput in units of one device's over the number of devices, beside the ideal."""
    chart = _chart(pygal.XY, name, title, "times one device", include_x_axis=True, x_title="devices")
    chart.x_labels = list(range(1, devices + 1))
    chart.add("ideal", [(1, 1), (devices, devices)], stroke_style={"dasharray": "4, 4"})
    for label, points in curves.items():
        chart.add(label, list(points))
    return _svg(chart)


def curves(name: str, title: str, unit: str, series: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Values over time, from 0, so that a wobble looks like one; time in hours, below two of them in seconds."""
    last = max(points[-1][0] for points in series.values())
    scale, label = (3600, "hours") if last >= 7200 else (1, "seconds")
    most = max(value for points in series.values() for _, value in points)
    bounds = {"range": (0, 1.08 * most or 1), "xrange": (0, last / scale)}
    chart = _chart(pygal.XY, name, title, unit, show_dots=False, x_title=label, stroke_style={"width": 1.5}, **bounds)
    for one, points in series.items():
        chart.add(one, [(at / scale, value) for at, value in points])
    return _svg(chart)


def _svg(chart: Any) -> str:
    """Inline SVG without scripts, and without the generator's comments, of which one holds today's date."""
    chart.add_xml_filter(_still)
    text: str = chart.render(is_unicode=True)
    while "<!--" in text:
        before, _, rest = text.partition("<!--")
        text = before + rest.partition("-->")[2]
    return text


def _still(root: Any) -> Any:
    for parent in root.iter():
        for child in [one for one in parent if str(one.tag).endswith("script")]:
            parent.remove(child)
    return root
