"""SMART data of the disks, from smartctl's JSON: health, temperature and wear.

Source of the fields: smartctl(8), option --json; those of NVMe are from the health log of the NVM Express Base
Specification 1.4, figure 194 (`percentage_used` may exceed 100).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.metrics.exposition import Family

SMARTCTL = "/usr/sbin/smartctl"
SECONDS = 20
"""Time limit of smartctl, in seconds. A working disk answers in well under a second."""

Runner = Callable[[Sequence[str]], Mapping[str, Any]]


def smartctl(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Run smartctl. Returns its JSON. Raises VaultCubeError if smartctl is missing or prints no JSON in time."""
    command = [SMARTCTL, "--json=c", *arguments]
    try:
        ran = process.run(command, timeout_s=SECONDS, ok=None)
        answer = json.loads(ran.stdout)
    except process.Missing as err:
        raise VaultCubeError("smartctl is not installed: run `salt-call --local state.apply validation`") from err
    except process.TimedOut as err:
        raise VaultCubeError(f"smartctl {' '.join(arguments)}: no answer within {SECONDS} s") from err
    except ValueError as err:
        raise VaultCubeError(f"smartctl {' '.join(arguments)}: exit status {ran.returncode}, no JSON") from err
    return answer if isinstance(answer, dict) else {}


def families(run: Runner = smartctl) -> list[Family]:
    """Read the metrics of all disks. A disk without SMART data, such as a virtual one, has none.

    run: function that runs smartctl with given arguments. Raises VaultCubeError if the list of disks cannot be read.
    """
    disks = Family("vault_cube_disks", "disks that smartctl finds, with or without SMART data")
    answers = Family("vault_cube_disk_answers", "1 if the disk returned its SMART data, 0 if it did not answer")
    healthy = Family("vault_cube_disk_healthy", "0 if the disk reports that it is failing (SMART overall health)")
    warning = Family("vault_cube_disk_critical_warning", "bits of the NVMe health log's critical warning")
    warm = Family("vault_cube_disk_temperature_celsius", "temperature of the disk, degrees C")
    worn = Family("vault_cube_disk_endurance_used_ratio", "used share of the rated endurance, may pass 1")
    spare = Family("vault_cube_disk_spare_ratio", "unused share of the spare blocks")
    errors = Family("vault_cube_disk_media_errors_total", "errors that the disk could not correct", "counter")
    on = Family("vault_cube_disk_power_on_seconds", "time for which the disk was powered on")
    devices = _devices(run)
    disks.add({}, len(devices))
    for device in devices:
        labels = {"device": device.removeprefix("/dev/")}
        try:
            data = run(["--all", "--nocheck=standby", device])
        except VaultCubeError:
            answers.add(labels, 0)
            continue
        status = data.get("smart_status", {}).get("passed")
        log = data.get("nvme_smart_health_information_log", {})
        if status is None and not log:
            continue
        # nvme, ata or scsi
        labels |= {"kind": str(data.get("device", {}).get("protocol", "")).lower()}
        labels |= {"model": str(data.get("model_name", "")), "serial": str(data.get("serial_number", ""))}
        answers.add(labels, 1)
        healthy.add(labels, None if status is None else int(status))
        warning.add(labels, log.get("critical_warning"))
        warm.add(labels, data.get("temperature", {}).get("current"))
        worn.add(labels, _share(log.get("percentage_used")))
        spare.add(labels, _share(log.get("available_spare")))
        errors.add(labels, log.get("media_errors"))
        hours = data.get("power_on_time", {}).get("hours")
        on.add(labels, None if hours is None else hours * 3600)
    return [disks, answers, healthy, warning, warm, worn, spare, errors, on]


def _devices(run: Runner) -> list[str]:
    """List the disks that smartctl finds, such as `/dev/nvme0`."""
    return [device["name"] for device in run(["--scan"]).get("devices") or []]


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
