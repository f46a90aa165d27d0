"""`gpu.monitor`: what the GPUs do now, why they are slow and which processes use them, updated in the terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vault_cube import terminal
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host, throttle
from vault_cube.gpu.read.facts import facts, present, short
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.settings.validation import Alerts

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Facts, Holder, View

TOP = 10
"""Maximum number of processes shown; leaked worker processes may be hundreds."""
COLOURS = {"fault": "bold red", "heat": "bold red", "power": "yellow", "chosen": "cyan"}


def look(session: Session, identity: Facts, machine: Host | None = None) -> View:
    """Read one view of the GPUs: each GPU with its readings, and all processes, those with the most memory first."""
    names = {card["index"]: card.get("name", "unknown GPU") for card in identity["devices"]}
    view: View = {"driver_version": identity.get("driver_version", ""), "gpus": [], "processes": []}
    if "problem" in identity and not identity["devices"]:
        view["problem"] = identity["problem"]
        return view
    try:
        view["gpus"] = readings(session)
    except NvmlProblem as err:
        view["problem"] = str(err)
    if session.simulated:
        view["simulated"] = True
    for card in view["gpus"]:
        card["name"] = names.get(card["index"], "unknown GPU")
        for process in card.pop("processes", []):
            origin = host.process(machine or Host(), process["pid"]) or {"name": "?", "where": "another namespace"}
            holder: Holder = present(gpu=card["index"], **process, **origin)
            view["processes"].append(holder)
    view["processes"].sort(key=lambda holder: -holder.get("memory_mib", 0))
    return view


def once(session: Session) -> View:
    """Read a single view."""
    return look(session, facts(session))


def text(view: View) -> str:
    """Format the view without colours."""
    return terminal.text(_drawn(view, None))


def live(session: Session, alerts: Alerts | None, every_s: float, machine: Host | None = None) -> View:
    """Show the view until q or Ctrl-C is pressed. Returns the last one.

    alerts: the pillar's validation:monitoring:alerts, for the colours. every_s: seconds between two readings.
    """
    identity = facts(session, machine)
    view = look(session, identity, machine)
    if "problem" in view and not view["gpus"]:
        return view
    with _ending() as ended, Live(_drawn(view, alerts), screen=True, auto_refresh=False) as shown:
        while not ended(every_s):
            latest = look(session, identity, machine)
            # Ctrl-C also ends the process that asks the driver: its failed reading is not shown
            if ended(0):
                break
            view = latest
            if len(view["gpus"]) != len(identity["devices"]):
                identity = facts(session, machine)
            shown.update(_drawn(view, alerts), refresh=True)
    return view


def _drawn(view: View, alerts: Alerts | None) -> Group:
    if "problem" in view and not view["gpus"]:
        return Group(Text(view["problem"]))
    head = Text(f"{short(view['gpus'])}, driver {view['driver_version']}, {time.strftime('%H:%M:%S')}")
    if view.get("simulated"):
        head.append("   simulated: true, read from the fake library of a test", style="bold")
    holders = _holders(view["processes"]) if view["processes"] else Text("no process")
    return Group(head, _cards(view["gpus"], alerts), holders)


def _cards(cards: list[Card], alerts: Alerts | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("GPU", "busy", "memory", "°C", "W", "MHz", "fan", "PCIe", "slowed by"):
        table.add_column(title, justify="left" if title == "slowed by" else "right", no_wrap=title != "slowed by")
    for card in cards:
        if "problem" in card:
            table.add_row(str(card["index"]), *[""] * 7, Text(card["problem"], style="bold red"))
            continue
        used, total = card.get("memory_used_mib"), card.get("memory_total_mib")
        share = used / total if used is not None and total else 0
        celsius, watt = card.get("temperature_c"), card.get("power_w")
        pcie, fans = card.get("pcie", {}), card.get("fan_percent", [])
        table.add_row(
            str(card["index"]),
            _busy(card.get("utilisation")),
            Text(f"{_number(used)}/{_number(total)} MiB", style=_above(share, gpu_memory="yellow", alerts=alerts)),
            Text(_number(celsius), style=_above(celsius, gpu_hot="bold red", gpu_warm="yellow", alerts=alerts)),
            Text(
                f"{_number(watt)}/{_number(card.get('power_limit_w'))}",
                style=_above(watt, gpu_power="bold red", alerts=alerts),
            ),
            _number(card.get("clock_mhz")),
            f"{max(fans)} %" if fans else "-",
            f"{pcie.get('generation', '-')}x{pcie.get('width', '-')}",
            _slowed(card.get("throttle")),
        )
    return table


def _busy(share: float | None) -> Text:
    """Draw a bar of ten blocks, and the number."""
    if share is None:
        return Text("-")
    return Text(f"{'█' * round(share * 10):<10} {share:>4.0%}")


def _slowed(reasons: list[str] | None) -> Text:
    """Show the active throttle reasons, without that of an idle GPU."""
    if reasons is None:
        return Text("-")
    shown = Text()
    for reason in reasons:
        weight = throttle.WEIGHT.get(reason, "unknown")
        if weight != "idle":
            shown.append(reason, style=COLOURS.get(weight, "")).append(" ")
    return shown if shown else Text("idle" if reasons else "nothing")


def _holders(processes: list[Holder]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("GPU", "pid", "MiB", "kind", "process", "runs in"):
        table.add_column(title, justify="right" if title in ("GPU", "pid", "MiB") else "left")
    for process in processes[:TOP]:
        numbers = str(process["gpu"]), str(process["pid"]), _number(process.get("memory_mib"))
        table.add_row(*numbers, process["kind"], process["name"], process["where"])
    if len(processes) > TOP:
        table.add_row("", "", "", "", f"and {len(processes) - TOP} more", "")
    return table


def _above(value: float | None, *, alerts: Alerts | None, **styles: str) -> str:
    """Return the style of the first alert whose threshold the value exceeds."""
    for name, style in styles.items():
        if value is not None and alerts is not None and value > getattr(alerts, name).above:
            return style
    return ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


@contextmanager
def _ending() -> Iterator[Callable[[float], bool]]:
    """Yield ended(seconds), which waits that long for q or Ctrl-C. Restores the terminal's settings at the end."""
    reader, writer = os.pipe()
    # not an exception, which could interrupt the drawing and leave the terminal in raw mode
    before = signal.signal(signal.SIGINT, lambda *_: os.write(writer, b"\x03"))
    keyboard = [sys.stdin.fileno()] if sys.stdin.isatty() else []
    settings = [termios.tcgetattr(terminal_fd) for terminal_fd in keyboard]

    def ended(seconds: float) -> bool:
        ready = select.select([reader, *keyboard], [], [], seconds)[0]
        # an empty read means that the terminal was closed
        return any(os.read(ready_fd, 64)[:1].lower() in (b"", b"q", b"\x1b", b"\x03") for ready_fd in ready)

    try:
        for terminal_fd in keyboard:
            tty.setcbreak(terminal_fd)
        yield ended
    finally:
        for terminal_fd, setting in zip(keyboard, settings, strict=True):
            termios.tcsetattr(terminal_fd, termios.TCSADRAIN, setting)
        signal.signal(signal.SIGINT, before)
        os.close(reader)
        os.close(writer)
