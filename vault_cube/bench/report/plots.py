"""Plots as inline SVG. They inherit the page's colours, so that its style sheet alone handles print and dark mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

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
    # pygal's default identifier is random; a fixed one makes the page reproducible
    chart.uuid = f"plot-{name}"
    return chart


def bars(name: str, title: str, groups: Mapping[str, Mapping[str, Metric]], threshold: float | None = None) -> str:
    """Return a bar chart of medians with their 95 % intervals, one colour per group.

    groups: label of the group -> label of the bar -> metric. threshold: drawn as a labelled line, if given.
    """
    every = [metric for group in groups.values() for metric in group.values()]
    labels = list(dict.fromkeys(label for group in groups.values() for label in group))
    # the ends of the intervals must be inside the plot
    most = 1.08 * max([metric.high or metric.median for metric in every] + ([threshold] if threshold else []))
    if threshold is not None:
        title += f" (threshold {threshold:g})"
    chart = _chart(pygal.Bar, name, title, every[0].unit, range=(0, most), show_legend=len(groups) > 1)
    # with one bar per label there is room for the number
    alone = next(iter(groups.values())) if len(groups) == 1 else {}
    chart.x_labels = [f"{label}: {alone[label].median:.4g}" if label in alone else label for label in labels]
    for label, group in groups.items():
        chart.add(label, [_bar(group[bar]) if bar in group else None for bar in labels])
    if threshold is not None:
        chart.y_labels = [0, threshold, 1]
    return _svg(chart)


class Bar(TypedDict):
    """A bar of pygal, and the ends of its interval."""

    value: float
    ci: NotRequired[dict[str, float | None]]


def _bar(metric: Metric) -> Bar:
    bar: Bar = {"value": metric.median}
    if metric.low is not None:
        bar["ci"] = {"low": metric.low, "high": metric.high}
    return bar


def scaling(name: str, title: str, curves: Mapping[str, Sequence[tuple[float, float]]], devices: int) -> str:
    """Return a plot of throughput relative to one device over the number of devices, with the ideal line."""
    chart = _chart(pygal.XY, name, title, "relative to one device", include_x_axis=True, x_title="devices")
    chart.x_labels = list(range(1, devices + 1))
    chart.add("ideal", [(1, 1), (devices, devices)], stroke_style={"dasharray": "4, 4"})
    for label, points in curves.items():
        chart.add(label, list(points))
    return _svg(chart)


def curves(name: str, title: str, unit: str, series: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return a plot of values over time.

    series: points of (seconds, value) by label. The value axis starts at 0, so that small fluctuations look small; the
    time axis is in hours from 2 h on, in seconds below.
    """
    last = max(points[-1][0] for points in series.values())
    scale, label = (3600, "hours") if last >= 7200 else (1, "seconds")
    most = max(value for points in series.values() for _, value in points)
    bounds = {"range": (0, 1.08 * most or 1), "xrange": (0, last / scale)}
    chart = _chart(pygal.XY, name, title, unit, show_dots=False, x_title=label, stroke_style={"width": 1.5}, **bounds)
    for device, points in series.items():
        chart.add(device, [(at / scale, value) for at, value in points])
    return _svg(chart)


def _svg(chart: Any) -> str:
    """Render a chart as inline SVG without scripts and comments; one of pygal's comments contains today's date."""
    chart.add_xml_filter(_without_scripts)
    text: str = chart.render(is_unicode=True)
    while "<!--" in text:
        before, _, rest = text.partition("<!--")
        text = before + rest.partition("-->")[2]
    return text


def _without_scripts(root: Any) -> Any:
    for parent in root.iter():
        for child in [element for element in parent if str(element.tag).endswith("script")]:
            parent.remove(child)
    return root
