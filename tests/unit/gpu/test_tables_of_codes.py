"""Bits are masked and never compared as a whole; each XID has a meaning; NVLink and P2P decide what NCCL takes."""

import pytest

from vault_cube.gpu.read import events, throttle, topology, xid
from vault_cube.gpu.read.host import _acs_control, slot, sysfs


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
    assert xid.meaning(63).weight == "info"
    # what nobody knows is no reason to be calm
    assert [xid.meaning(code).weight for code in (177, 200, 4711)] == ["warning"] * 3
    assert "look it up" in xid.meaning(4711).todo
    assert [xid.meaning(code).weight for code in (173, 175, 176, 157)] == ["fault", "fault", "warning", "warning"]
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
    result = events.logged(LINES.splitlines())
    assert [(entry["bus_id"], entry["xid"]) for entry in result] == [
        ("0000:81:00", 79), ("0000:c1:00", 13), ("0000:01:00", 62), ("0000:01:00", 999999),
    ]  # fmt: skip
    assert result[0]["message"].startswith("pid=1234")


@pytest.mark.parametrize(
    ("text", "weight", "word"),
    [
        ("GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", "fault", "node reboot"),
        ("GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", "fault", "gpu reset"),
        ("GPU recovery action changed from 0x1 (GPU Reset Required) to 0x4 (Drain and Reset)", "fault", "drain"),
        ("GPU recovery action changed from 0x0 to 0x7", "fault", "0x7"),
        ("Node Reboot Required", "fault", "node reboot"),
        ("GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)", "info", "recover"),
        ("", "info", "recover"),
    ],
)
def test_xid_154_is_what_its_text_asks_for(text, weight, word):
    known = xid.meaning(154, text)
    assert known.weight == weight
    assert word in known.means


LOST = [
    # open-gpu-kernel-modules: osinit.c, and in three lines osapi.c
    ["NVRM: GPU 0000:51:00.0: GPU has fallen off the bus."],
    ["NVRM: The NVIDIA GPU 0000:51:00.0", "NVRM: (PCI ID: 10de:2b85) installed in this system has",
     "NVRM: fallen off the bus and is not responding to commands."],
    [r"NVRM: The NVIDIA GPU 0000:51:00.0\x0aNVRM: (PCI ID: 10de:2b85) installed in this system has\x0aNVRM: fallen off"
     " the bus and is not responding to commands."],
    ["NVRM: GPU at 0000:51:00.0 has fallen off the bus."],
    ["NVRM: GPU at PCI:0000:51:00: GPU-5eed0000 has fallen off the bus and is not responding to commands."],
    # with its XID it is one loss, not two
    ["NVRM: Xid (PCI:0000:51:00): 79, GPU has fallen off the bus.",
     "NVRM: GPU 0000:51:00.0: GPU has fallen off the bus."],
]  # fmt: skip


@pytest.mark.parametrize("lines", LOST)
def test_a_card_that_fell_off_the_bus_with_and_without_an_xid(lines):
    result = events.logged(["NVRM: loading NVIDIA UNIX Open Kernel Module", *lines])
    assert [(entry["bus_id"], entry["xid"], entry["weight"]) for entry in result] == [("0000:51:00", 79, "fault")]


def test_each_card_that_fell_off_the_bus_counts():
    lines = [*LOST[-1], "NVRM: GPU 0000:31:00.0: GPU has fallen off the bus.", LOST[0][0]]
    assert [entry["bus_id"] for entry in events.logged(lines)] == ["0000:51:00", "0000:31:00", "0000:51:00"]


def test_power_cables_that_are_missing():
    line = "NVRM: GPU 0000:51:00.0: GPU does not have the necessary power cables connected."
    assert [(entry["xid"], entry["weight"]) for entry in events.logged([line])] == [(54, "fault")]


@pytest.mark.parametrize(
    ("line", "bus", "code", "instance"),
    [
        (
            "NVRM: Xid (PCI:0000:11:00 GPU-I:05): 95, pid=7194, name=python, Uncontained: LTC",
            "0000:11:00",
            95,
            "GPU-I:05",
        ),
        (
            "NVRM: Xid (PCI:0000:11:00 GPU-I:05 GPU-CI:02): 43, pid=1, name=x, Ch 0",
            "0000:11:00",
            43,
            "GPU-I:05 GPU-CI:02",
        ),
        ("NVRM: Xid (PCI:000F:C1:00 GPU-I:13): 31", "000f:c1:00", 31, "GPU-I:13"),
        ("NVRM: Xid (PCI:0000:c1:00.0): 45, pid=3, Ch 1 caused by previous Xid 31", "0000:c1:00", 45, None),
        ("NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6)", "0018:01:00", 149, None),
        ("NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen", "0000:05:00", 79, None),
    ],
)
def test_all_formats_that_the_driver_writes(line, bus, code, instance):
    (result,) = events.logged([f"box kernel: {line}"])
    assert (result["bus_id"], result["xid"], result.get("instance")) == (bus, code, instance)


def test_nccl_takes_what_the_worst_pair_has():
    good, wired = {"p2p": True, "path": "PXB"}, {"p2p": True, "path": "NV4", "nvlinks": 4}
    bad = {"p2p": False, "read": "chipset not supported"}
    assert topology.nccl({"0-1": wired}, 2)["transport"] == "P2P over NVLink"
    assert topology.nccl({"0-1": wired, "0-2": good, "1-2": good}, 3)["transport"] == "P2P over PCIe"
    assert topology.nccl({"0-1": good, "0-2": bad, "1-2": good}, 3)["transport"] == "SHM"
    assert "0-2" in topology.nccl({"0-1": good, "0-2": bad, "1-2": good}, 3)["why"]
    assert topology.nccl({}, 1)["transport"] == "none"


@pytest.mark.parametrize(
    ("path", "gpus", "amd", "transport"),
    [
        ("INT", 4, False, "P2P over PCIe"),
        ("PIX", 4, False, "P2P over PCIe"),
        ("PXB", 8, False, "P2P over PCIe"),
        ("PHB", 4, False, "SHM"),
        ("NODE", 4, False, "SHM"),
        ("SYS", 2, False, "SHM"),
        # NCCL trusts two GPUs on AMD's host bridges, and no more
        ("SYS", 2, True, "P2P over PCIe"),
        ("NODE", 4, True, "SHM"),
        (None, 2, False, "SHM"),
    ],
)
def test_nccl_leaves_peer_to_peer_that_is_too_far(path, gpus, amd, transport):
    link = {"p2p": True, **({"path": path} if path else {})}
    pairs = {f"{a}-{b}": link for a in range(gpus) for b in range(a + 1, gpus)}
    result = topology.nccl(pairs, gpus, amd=amd)
    assert result["transport"] == transport
    assert ("NCCL_P2P_LEVEL" in result["why"]) == (transport == "SHM")


def test_names_of_devices():
    assert sysfs("00000000:C1:00.0") == "0000:c1:00.0"
    assert sysfs("00010000:01:00.0") == "10000:01:00.0"
    for text in ("N/A", "", ":", "Unknown Error", "0000"):
        assert sysfs(text) == text.lower() or sysfs(text) == text
        assert slot(text) == ()
    assert slot("00000000:C1:00.0") == slot("0000:c1:00") == slot("0:C1:0.1") == (0, 0xC1, 0)
    assert slot("00010000:01:00.0") != slot("0000:01:00.0")


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
