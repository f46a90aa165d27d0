"""The verdict on a burn-in's samples, per card and per hour: work, speed, clock, power, heat, XIDs, errors."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from vault_cube.bench.fields import BurntCard, BurntHour, Gpu, Judged, Sample
from vault_cube.bench.judge import cards
from vault_cube.bench.judge.burn_card import Device, Hour
from vault_cube.settings.benchmark import Ceiling, Stress
from vault_cube.verdicts import FAULT, OK, UNCERTAIN, Status, worst

MEDIANS: tuple[Literal["tflops", "clock_mhz", "power_w"], ...] = ("tflops", "clock_mhz", "power_w")
BOX = "box"
"""Stands for a device that an XID's line does not name."""


class Problem(NamedTuple):
    """One reason against `ok`. hour: the hour, from 1; None: of the whole burn-in. kind: what recurs by the hour."""

    device: str
    text: str
    hour: int | None = None
    kind: str = ""
    status: Status = FAULT


class Rules(NamedTuple):
    """What the samples are judged by.

    devices: what is to burn, by device: name, clock_max_mhz, power_limit_w, as far as they are known; empty for a CPU.
    """

    devices: Mapping[str, Gpu]
    stress: Stress
    ceilings: Sequence[Ceiling]


def judge(samples: Iterable[Sample], asked_s: float, why: str | None, rules: Rules) -> Judged:
    """Judge the samples of a burn-in.

    samples: in the order in which they were taken. asked_s: requested duration, seconds. why: the reason for an early
    end, or None.
    """
    devices, burnt = accumulated(samples, rules.devices)
    problems = [problem for name, device in devices.items() for problem in _of_device(name, device, rules)]
    problems += _among_siblings(devices, rules)
    if not why and not any(device.products for device in devices.values()):
        why = "no matrix product was computed: nothing can be judged"
    lines = ([why] if why else []) + [f"{problem.device}: {problem.text}" for problem in _whole(problems)]
    described = {
        name: _card([problem for problem in problems if problem.device == name], device)
        for name, device in devices.items()
        if name != BOX or device.xids
    }
    statuses: list[Status] = [FAULT if why else OK, *(problem.status for problem in problems)]
    return {
        "verdict": worst(statuses),
        "problems": lines,
        "burnt_s": round(burnt, 1),
        "whole": burnt >= asked_s,
        "cards": described,
        "devices": {name: devices[name].described() for name in described},
        "work": {
            name: {"products": device.products, "wrong": device.wrong}
            for name, device in devices.items()
            if name in rules.devices or device.products
        },
    }


def accumulated(samples: Iterable[Sample], planned: Iterable[str]) -> tuple[dict[str, Device], float]:
    """Return what the samples contain by device, those without a sample included, and the seconds of the last one."""
    devices = {name: Device() for name in planned}
    burnt = 0.0
    for sample in samples:
        at = burnt = float(sample["at"])
        for name, fields in sample["devices"].items():
            if name != "sensors":
                devices.setdefault(name, Device()).read(at, fields, sample.get("boot", 1))
        for name, done in sample["work"].items():
            devices.setdefault(name, Device()).work(at, done)
    return devices, burnt


def _card(problems: Sequence[Problem], device: Device) -> BurntCard:
    return {
        "verdict": worst([OK, *(problem.status for problem in problems)]),
        "problems": [problem.text for problem in _whole(problems)],
        "hours": [
            _hour(number, hour, [problem for problem in problems if problem.hour == number])
            for number, hour in sorted(device.hours.items())
        ],
    }


def _hour(number: int, hour: Hour, problems: Sequence[Problem]) -> BurntHour:
    described: BurntHour = {
        "hour": number,
        "verdict": worst([OK, *(problem.status for problem in problems)]),
        "problems": [problem.text for problem in problems],
        "products": hour.products,
        "wrong": hour.wrong,
    }
    for name in MEDIANS:
        if (median := hour.median(name)) is not None:
            described[name] = round(median, 2)
    if hour.values["temperature_c"]:
        described["temperature_c"] = max(hour.values["temperature_c"])
    return described


def _whole(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with those that recur hour after hour only once, in their first hour."""
    whole: list[Problem] = []
    seen: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        if problem.hour is None:
            whole.append(problem)
        else:
            seen.setdefault((problem.device, problem.kind), []).append(problem)
    for recurring in seen.values():
        first, count = recurring[0], len(recurring)
        more = f", and in {count - 1} more hour(s)" if count > 1 else ""
        whole.append(first._replace(text=f"{first.text} in hour {first.hour}{more}"))
    return whole


def _of_device(name: str, device: Device, rules: Rules) -> list[Problem]:
    if name == BOX:
        return _xids(name, device)
    problems = [*_work(name, device), *_sensors(name, device, rules), *_xids(name, device)]
    return [*problems, *_speed(name, device, rules), *_errors(name, device, rules.stress)]


def _work(name: str, device: Device) -> list[Problem]:
    if not device.products:
        return [Problem(name, "computed no product: it cannot be judged")]
    problems = [
        Problem(name, "computed no product", number, "work")
        for number, hour in device.full_hours().items()
        if not hour.products
    ]
    if device.wrong:
        text = f"{device.wrong} wrong values in {device.products} products, the first after {device.first_wrong:.0f} s"
        problems.append(Problem(name, text))
    return problems


def _sensors(name: str, device: Device, rules: Rules) -> list[Problem]:
    rule, problems = rules.stress, []
    card = rules.devices.get(name, {})
    for reason, count in sorted(device.throttled.items()):
        share, allowed = count / device.throttle_samples, rule.throttle_share.get(reason, 0.0)
        if share > allowed:
            text = f"throttled by {reason} for {share:.1%} of the time; at most {allowed:.1%} is allowed"
            problems.append(Problem(name, text))
    later = device.later_share()
    if later is not None and later < 1 - rule.clock_drop:
        problems.append(Problem(name, f"median clock after the first hour is {later:.1%} of the first hour's"))
    for sensor, limit, least, what in (
        ("clock_mhz", card.get("clock_max_mhz"), rule.clock_share, "clock of {:.0f} MHz"),
        ("power_w", card.get("power_limit_w"), rule.power_share, "power of {:.0f} W"),
    ):
        for number, hour in device.full_hours().items():
            median = hour.median(sensor)
            if limit and median is not None and median < least * limit:
                text = f"{what.format(median)}, {median / limit:.0%} of {limit:.0f}, less than {least:.0%}"
                problems.append(Problem(name, text, number, sensor))
    if card and device.samples and device.unread > rule.unread_share * device.samples:
        text = f"no temperature in {device.unread} of {device.samples} samples"
        problems.append(Problem(name, text))
    return problems


def _xids(name: str, device: Device) -> list[Problem]:
    codes = device.serious_xids()
    return [Problem(name, f"XID {', '.join(map(str, codes))}")] if codes else []


def _speed(name: str, device: Device, rules: Rules) -> list[Problem]:
    """Compare the speed of a GPU with the vendor's figure; a GPU without a figure needs siblings to be judged."""
    card = rules.devices.get(name, {})
    if not card or not device.products:
        return []
    figures, least = cards.ceiling(rules.ceilings, card.get("name")), rules.stress.speed_share
    if figures is None or figures.bfloat16_tflops is None:
        if len(_siblings(name, rules)) > 1:
            return []
        text = f"speed not judged: no published figure for {card.get('name')} (pillar benchmark:ceilings), no sibling"
        return [Problem(name, text, status=UNCERTAIN)]
    peak = figures.bfloat16_tflops
    return [
        Problem(name, f"{speed:.4g} TFLOP/s, {speed / peak:.0%} of {peak:g}, less than {least:.0%}", number, "speed")
        for number, hour in device.full_hours().items()
        if (speed := hour.median("tflops")) is not None and speed < least * peak
    ]


def _errors(name: str, device: Device, rule: Stress) -> list[Problem]:
    problems = []
    uncorrected = device.counters.get("ecc_uncorrected")
    if uncorrected and uncorrected.increase:
        problems.append(Problem(name, f"{uncorrected.increase} uncorrected ECC errors"))
    for counter, limit, what in (
        ("pcie_replays", rule.pcie_replays, "replays of the PCIe link"),
        ("pcie_corrected", rule.pcie_corrected, "corrected PCIe errors"),
    ):
        problems += [
            Problem(name, f"{hour.grown[counter]} {what}, at most {limit} are allowed", number, counter)
            for number, hour in device.hours.items()
            if hour.grown[counter] > limit
        ]
    return problems


def _siblings(name: str, rules: Rules) -> list[str]:
    """Return the devices of one model, the named one included."""
    model = rules.devices.get(name, {}).get("name")
    return [other for other, card in rules.devices.items() if model and card.get("name") == model]


def _among_siblings(devices: Mapping[str, Device], rules: Rules) -> list[Problem]:
    """Compare the speed of each GPU in each hour with the median of the other GPUs of its model."""
    problems = []
    numbers = sorted({number for device in devices.values() for number in device.hours})
    for number in numbers:
        speeds = {
            name: speed
            for name, device in devices.items()
            if (speed := device.full_hours().get(number, Hour()).median("tflops")) is not None
        }
        for name, speed in speeds.items():
            others = [speeds[other] for other in _siblings(name, rules) if other != name and other in speeds]
            if others and speed < rules.stress.siblings * statistics.median(others):
                share = speed / statistics.median(others)
                text = f"{speed:.4g} TFLOP/s, {share:.0%} of the other cards' median,"
                problems.append(Problem(name, text, number, "siblings"))
    return problems
