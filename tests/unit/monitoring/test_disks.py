"""SMART data, from answers of the shape that smartctl's JSON has; values made up, no disk was asked."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.metrics import disks

NVME = {
    "device": {"name": "/dev/nvme0", "type": "nvme", "protocol": "NVMe"},
    "model_name": "Samsung SSD 990 PRO 4TB",
    "serial_number": "S7KGNJ0W",
    "smart_status": {"passed": True, "nvme": {"value": 0}},
    "nvme_smart_health_information_log": {
        "critical_warning": 0, "temperature": 44, "available_spare": 100, "available_spare_threshold": 10,
        "percentage_used": 3, "media_errors": 0,
    },
    "temperature": {"current": 44},
    "power_on_time": {"hours": 1234},
}  # fmt: skip
SATA = {
    "device": {"name": "/dev/sda", "type": "sat", "protocol": "ATA"},
    "model_name": "WDC WD40",
    "serial_number": "WD-1",
    "smart_status": {"passed": False},
    "temperature": {"current": 35},
    "power_on_time": {"hours": 50000},
}
# smartctl 7.3 on a virtio disk, as it answered
VIRTUAL = {"smartctl": {"messages": [{"string": "/dev/vda: Unable to detect device type"}], "exit_status": 1}}


def asked(**answers):
    """smartctl for disks of these names; an exception is raised."""

    def run(arguments):
        if arguments == ["--scan"]:
            return {"devices": [{"name": f"/dev/{name}"} for name in answers]}
        answer = answers[arguments[-1].removeprefix("/dev/")]
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = {one.name.removeprefix("vault_cube_disk_"): one.samples for one in disks.families(run)}
    assert made.pop("vault_cube_disks") == [({}, len(answers))]
    return made


def test_an_nvme_tells_health_heat_and_wear():
    said = asked(nvme0=NVME)
    labels = {"device": "nvme0", "kind": "nvme", "model": "Samsung SSD 990 PRO 4TB", "serial": "S7KGNJ0W"}
    assert {name: samples[0][1] for name, samples in said.items()} == {
        "answers": 1, "healthy": 1, "critical_warning": 0, "temperature_celsius": 44, "endurance_used_ratio": 0.03,
        "spare_ratio": 1.0, "media_errors_total": 0, "power_on_seconds": 1234 * 3600,
    }  # fmt: skip
    assert said["answers"][0][0] == labels


def test_wear_may_pass_its_rating():
    worn = {**NVME, "nvme_smart_health_information_log": {"percentage_used": 130}}
    assert asked(nvme0=worn)["endurance_used_ratio"][0][1] == 1.3


def test_a_sata_disk_lacks_what_only_nvme_has():
    said = asked(sda=SATA)
    assert said["healthy"][0][1] == 0
    assert said["temperature_celsius"][0][0]["kind"] == "ata"
    assert said["endurance_used_ratio"] == said["spare_ratio"] == said["critical_warning"] == []


def test_a_virtual_disk_says_nothing_and_is_no_alarm():
    assert not any(asked(vda=VIRTUAL).values())


def test_a_disk_that_hangs_is_told_and_the_others_are_read():
    said = asked(sda=VaultCubeError("no answer within 20 s"), nvme0=NVME)
    assert [(one["device"], value) for one, value in said["answers"]] == [("sda", 0), ("nvme0", 1)]


def test_a_box_without_disks():
    assert [one.samples for one in disks.families(lambda arguments: {}) if one.samples] == [[({}, 0)]]


def test_without_smartctl_one_line(monkeypatch):
    monkeypatch.setattr(disks, "SMARTCTL", "/nowhere/smartctl")
    with pytest.raises(VaultCubeError, match="smartctl is not installed"):
        disks.families()


@pytest.mark.parametrize("says", ["", "not json", "[]"])
def test_an_answer_that_is_none_is_one_line_or_no_disk(tmp_path, monkeypatch, says):
    program = tmp_path / "smartctl"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{says}'\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setattr(disks, "SMARTCTL", str(program))
    if says == "[]":
        assert [one.name for one in disks.families() if one.samples] == ["vault_cube_disks"]
    else:
        with pytest.raises(VaultCubeError, match="smartctl --scan: exit status 4, no answer"):
            disks.families()
