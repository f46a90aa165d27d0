"""SMART data from made-up answers in the format of smartctl's JSON; no disk is read."""

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
# a real answer of smartctl 7.3 for a virtio disk
VIRTUAL = {"smartctl": {"messages": [{"string": "/dev/vda: Unable to detect device type"}], "exit_status": 1}}


def samples_of(**answers):
    """Return the samples by metric for disks with these names and answers of smartctl; raise an answer's exception."""

    def run(arguments):
        if arguments == ["--scan"]:
            return {"devices": [{"name": f"/dev/{name}"} for name in answers]}
        answer = answers[arguments[-1].removeprefix("/dev/")]
        if isinstance(answer, Exception):
            raise answer
        return answer

    samples = {family.name.removeprefix("vault_cube_disk_"): family.samples for family in disks.families(run)}
    assert samples.pop("vault_cube_disks") == [({}, len(answers))]
    return samples


def test_an_nvme_disk_has_health_temperature_and_wear():
    metrics = samples_of(nvme0=NVME)
    labels = {"device": "nvme0", "kind": "nvme", "model": "Samsung SSD 990 PRO 4TB", "serial": "S7KGNJ0W"}
    assert {name: samples[0][1] for name, samples in metrics.items()} == {
        "answers": 1, "healthy": 1, "critical_warning": 0, "temperature_celsius": 44, "endurance_used_ratio": 0.03,
        "spare_ratio": 1.0, "media_errors_total": 0, "power_on_seconds": 1234 * 3600,
    }  # fmt: skip
    assert metrics["answers"][0][0] == labels


def test_wear_may_exceed_the_rated_endurance():
    worn = {**NVME, "nvme_smart_health_information_log": {"percentage_used": 130}}
    assert samples_of(nvme0=worn)["endurance_used_ratio"][0][1] == 1.3


def test_a_sata_disk_lacks_the_metrics_of_nvme():
    metrics = samples_of(sda=SATA)
    assert metrics["healthy"][0][1] == 0
    assert metrics["temperature_celsius"][0][0]["kind"] == "ata"
    assert metrics["endurance_used_ratio"] == metrics["spare_ratio"] == metrics["critical_warning"] == []


def test_a_virtual_disk_has_no_metrics_and_raises_no_alert():
    assert not any(samples_of(vda=VIRTUAL).values())


def test_a_disk_that_hangs_is_reported_and_the_others_are_read():
    metrics = samples_of(sda=VaultCubeError("no answer within 20 s"), nvme0=NVME)
    assert [(labels["device"], value) for labels, value in metrics["answers"]] == [("sda", 0), ("nvme0", 1)]


def test_a_box_without_disks_has_only_their_number():
    families = disks.families(lambda arguments: {})
    assert [family.samples for family in families if family.samples] == [[({}, 0)]]


def test_a_missing_smartctl_is_reported_in_one_line(monkeypatch):
    monkeypatch.setattr(disks, "SMARTCTL", "/nowhere/smartctl")
    with pytest.raises(VaultCubeError, match="smartctl is not installed"):
        disks.families()


@pytest.mark.parametrize("stdout", ["", "not json", "[]"])
def test_unusable_output_of_smartctl_is_an_error_or_no_disk(tmp_path, monkeypatch, stdout):
    program = tmp_path / "smartctl"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{stdout}'\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setattr(disks, "SMARTCTL", str(program))
    if stdout == "[]":
        assert [family.name for family in disks.families() if family.samples] == ["vault_cube_disks"]
    else:
        with pytest.raises(VaultCubeError, match="smartctl --scan: exit status 4, no JSON"):
            disks.families()
