"""Bits are masked and never compared as a whole; each XID has a meaning; NVLink and P2P decide what NCCL takes."""

import pytest

from vault_cube.gpu.read import events, throttle, topology, xid
from vault_cube.gpu.read.host import _acs_control, sysfs


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0x0, []),
        (0x1, ["gpu_idle"]),
        (0x4 | 0x8 | 0x40, ["sw_power_cap", "hw_slowdown", "hw_thermal_slowdown"]),
        (0x7FF, list(throttle.REASONS.values())),
        (0x8000 | 0x4, ["sw_power_cap", "0x8000"]),
    ],
)
def test_throttle_reasons(mask, names):
    assert throttle.reasons(mask) == names


def test_every_reason_has_a_weight_and_what_is_bad_has_advice():
    assert set(throttle.WEIGHT) == set(throttle.REASONS.values())
    assert set(throttle.SLOW) <= set(throttle.TODO)


def test_the_share_of_time_of_each_reason():
    assert throttle.shares([0x4, 0x44, 0x1, 0x44]) == {
        "sw_power_cap": 0.75,
        "hw_thermal_slowdown": 0.5,
        "gpu_idle": 0.25,
    }


def test_xids():
    assert xid.meaning(79).weight == "fault"
    assert xid.meaning(31).weight == "program"
    assert xid.meaning(63).weight == "told"
    assert "look it up" in xid.meaning(4711).todo
    for code, known in xid.XIDS.items():
        assert 0 < code < 256
        assert known.means
        assert known.todo


LINES = """
NVRM: GPU at PCI:0000:81:00: GPU-bc0fa0b9
NVRM: Xid (PCI:0000:81:00): 79, pid=1234, name=python3, GPU has fallen off the bus.
[17179.1] NVRM: Xid (PCI:0000:C1:00): 13, Graphics SM Warp Exception on (GPC 7, TPC 7, SM 0)
NVRM: Xid (0000:01:00): 62, 0096(1c54) 00000000 00000000
NVRM: Xid (PCI:0000:01:00): 999999
usb 1-1: Xid (PCI:0000:01:00): 79
"""


def test_xids_in_the_kernel_s_log():
    found = events.logged(LINES.splitlines())
    assert [(one["bus_id"], one["xid"]) for one in found] == [
        ("0000:81:00", 79), ("0000:c1:00", 13), ("0000:01:00", 62), ("0000:01:00", 999999),
    ]  # fmt: skip
    assert found[0]["said"].startswith("pid=1234")


def test_nccl_takes_what_the_worst_pair_has():
    good, wired = {"p2p": True, "path": "NODE"}, {"p2p": True, "path": "NV4", "nvlinks": 4}
    bad = {"p2p": False, "read": "chipset not supported"}
    assert topology.nccl({"0-1": wired}, 2)["transport"] == "P2P over NVLink"
    assert topology.nccl({"0-1": wired, "0-2": good, "1-2": good}, 3)["transport"] == "P2P over PCIe"
    assert topology.nccl({"0-1": good, "0-2": bad, "1-2": good}, 3)["transport"] == "SHM"
    assert "0-2" in topology.nccl({"0-1": good, "0-2": bad, "1-2": good}, 3)["why"]
    assert topology.nccl({}, 1)["transport"] == "none"


def test_names_of_devices():
    assert sysfs("00000000:C1:00.0") == "0000:c1:00.0"
    assert sysfs("00010000:01:00.0") == "10000:01:00.0"


def test_acs_is_found_behind_other_capabilities():
    config = bytearray(4096)
    config[0x100:0x104] = (0x0001 | 1 << 16 | 0x148 << 20).to_bytes(4, "little")
    config[0x148:0x14C] = (0x000D | 1 << 16).to_bytes(4, "little")
    config[0x14E:0x150] = (0b11101).to_bytes(2, "little")
    assert _acs_control(bytes(config)) == 0b11101
    assert _acs_control(bytes(4096)) == 0
    # a circle in a broken device ends
    config[0x100:0x104] = (0x0001 | 0x100 << 20).to_bytes(4, "little")
    assert _acs_control(bytes(config)) == 0
