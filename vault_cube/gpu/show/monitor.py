"""`gpu.monitor`: what the GPUs do now and why they are slow, who uses them, as a view that lives in the terminal."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host, throttle
from vault_cube.gpu.read.facts import facts, short
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.settings.monitoring import Alerts

TOP = 10
"""processes shown; a box has few, a leak of workers has hundreds"""
WIDTH = 160
COLOURS = {"fault": "bold red", "heat": "bold red", "power": "yellow", "chosen": "cyan"}


def look(session: Session, identity: Mapping[str, Any], machine: Host | None = None) -> dict[str, Any]:
    """One view of the GPUs. identity: as `facts` gives it.

    Returns driver_version, gpus [{index, name, and what `readings` gives}], processes [{gpu, pid, name, where,
    memory_mib, kind}] with the most memory first, problem where the driver does not answer, simulated where it is.
    """
    names = {one["index"]: one.get("name", "unknown GPU") for one in identity["devices"]}
    view: dict[str, Any] = {"driver_version": identity.get("driver_version", ""), "gpus": [], "processes": []}
    if "problem" in identity and not identity["devices"]:
        view["problem"] = identity["problem"]
        return view
    try:
        view["gpus"] = [{"name": names.get(one["index"], "unknown GPU"), **one} for one in readings(session)]
    except NvmlProblem as err:
        view["problem"] = str(err)
    if session.simulated:
        view["simulated"] = True
    for card in view["gpus"]:
        for one in card.pop("processes", []):
            known = host.process(machine or Host(), one["pid"]) or {"name": "?", "where": "another namespace"}
            view["processes"].append({"gpu": card["index"], **one, **known})
    view["processes"].sort(key=lambda one: -one.get("memory_mib", 0))
    return view


def once(session: Session) -> dict[str, Any]:
    """One view, from nothing."""
    return look(session, facts(session))


def text(view: Mapping[str, Any]) -> str:
    """The view without colours."""
    if "problem" in view and not view["gpus"]:
        return str(view["problem"])
    out = io.StringIO()
    Console(file=out, width=WIDTH, color_system=None).print(_drawn(view, None))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def live(session: Session, alerts: Alerts | None, every_s: float, machine: Host | None = None) -> dict[str, Any]:
    """Show the view until q or Ctrl-C. Returns the last one.

    alerts: the pillar's validation:monitoring:alerts, for the colours. every_s: seconds between two readings.
    """
    identity = facts(session, machine)
    view = look(session, identity, machine)
    if "problem" in view and not view["gpus"]:
        return view
    with _ending() as ended, Live(_drawn(view, alerts), screen=True, auto_refresh=False) as shown:
        while not ended(every_s):
            seen = look(session, identity, machine)
            # Ctrl-C ends the process that asks the driver, too: what it was asked then is no finding
            if ended(0):
                break
            view = seen
            if len(view["gpus"]) != len(identity["devices"]):
                identity = facts(session, machine)
            shown.update(_drawn(view, alerts), refresh=True)
    return view


def _drawn(view: Mapping[str, Any], alerts: Alerts | None) -> Group:
    if "problem" in view and not view["gpus"]:
        return Group(Text(view["problem"]))
    head = Text(f"{short({'devices': view['gpus']})}, driver {view['driver_version']}, {time.strftime('%H:%M:%S')}")
    if view.get("simulated"):
        head.append("   simulated: true, read from a test's library, not from NVIDIA's", style="bold")
    holders = _holders(view["processes"]) if view["processes"] else Text("no process")
    return Group(head, _cards(view["gpus"], alerts), holders)


def _cards(cards: list[dict[str, Any]], alerts: Alerts | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("GPU", "busy", "memory", "°C", "W", "MHz", "fan", "PCIe", "slowed by"):
        table.add_column(title, justify="left" if title == "slowed by" else "right", no_wrap=title != "slowed by")
    for one in cards:
        if "problem" in one:
            table.add_row(str(one["index"]), *[""] * 7, Text(one["problem"], style="bold red"))
            continue
        used, total = one.get("memory_used_mib"), one.get("memory_total_mib")
        share = used / total if used is not None and total else 0
        celsius, watt = one.get("temperature_c"), one.get("power_w")
        pcie, fans = one.get("pcie", {}), one.get("fan_percent", [])
        table.add_row(
            str(one["index"]),
            _busy(one.get("utilisation")),
            Text(f"{_number(used)}/{_number(total)} MiB", style=_above(share, gpu_memory="yellow", alerts=alerts)),
            Text(_number(celsius), style=_above(celsius, gpu_hot="bold red", gpu_warm="yellow", alerts=alerts)),
            Text(
                f"{_number(watt)}/{_number(one.get('power_limit_w'))}",
                style=_above(watt, gpu_power="bold red", alerts=alerts),
            ),
            _number(one.get("clock_mhz")),
            f"{max(fans)} %" if fans else "-",
            f"{pcie.get('generation', '-')}x{pcie.get('width', '-')}",
            _slowed(one.get("throttle")),
        )
    return table


def _busy(share: float | None) -> Text:
    """A bar of ten, and the number."""
    if share is None:
        return Text("-")
    return Text(f"{'█' * round(share * 10):<10} {share:>4.0%}")


def _slowed(reasons: list[str] | None) -> Text:
    """The reasons that hold, without that of a GPU at rest."""
    if reasons is None:
        return Text("-")
    said = Text()
    for reason in reasons:
        weight = throttle.WEIGHT.get(reason, "unknown")
        if weight != "idle":
            said.append(reason, style=COLOURS.get(weight, "")).append(" ")
    return said if said else Text("idle" if reasons else "nothing")


def _holders(processes: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("GPU", "pid", "MiB", "kind", "process", "runs in"):
        table.add_column(title, justify="right" if title in ("GPU", "pid", "MiB") else "left")
    for one in processes[:TOP]:
        table.add_row(
            str(one["gpu"]), str(one["pid"]), _number(one.get("memory_mib")), one["kind"], one["name"], one["where"]
        )
    if len(processes) > TOP:
        table.add_row("", "", "", "", f"and {len(processes) - TOP} more", "")
    return table


def _above(value: float | None, *, alerts: Alerts | None, **styles: str) -> str:
    """The style of the first alert whose threshold the value passes."""
    for name, style in styles.items():
        if value is not None and alerts is not None and value > getattr(alerts, name).above:
            return style
    return ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


@contextmanager
def _ending() -> Iterator[Callable[[float], bool]]:
    """ended(seconds) waits so long for q or Ctrl-C. The terminal is put back as it was."""
    heard, told = os.pipe()
    # no exception: one in the middle of drawing would leave the terminal as it is
    before = signal.signal(signal.SIGINT, lambda *_: os.write(told, b"\x03"))
    keyboard = [sys.stdin.fileno()] if sys.stdin.isatty() else []
    settings = [termios.tcgetattr(one) for one in keyboard]

    def ended(seconds: float) -> bool:
        ready = select.select([heard, *keyboard], [], [], seconds)[0]
        # nothing to read: the terminal is gone
        return any(os.read(one, 64)[:1].lower() in (b"", b"q", b"\x1b", b"\x03") for one in ready)

    try:
        for one in keyboard:
            tty.setcbreak(one)
        yield ended
    finally:
        for one, setting in zip(keyboard, settings, strict=True):
            termios.tcsetattr(one, termios.TCSADRAIN, setting)
        signal.signal(signal.SIGINT, before)
        os.close(heard)
        os.close(told)
