"""Values that NVML is known to return and that cannot be true are dropped for every reader, and named."""

import pytest

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.detail import details
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.show import monitor
from vault_cube.metrics import gpus

ONES, ONES_64 = 2**32 - 1, 2**64 - 1

# what NVML says of GPU 2, the field that must be absent, its function
WRONG = [
    *(({"utilisation": {"gpu": share}}, "utilisation", "nvmlDeviceGetUtilizationRates")
      for share in (ONES, 101, 1234, 200_000)),
    ({"utilisation": {"memory": ONES}}, "memory_utilisation", "nvmlDeviceGetUtilizationRates"),
    ({"utilisation": {"encoder": 4000}}, "encoder", "nvmlDeviceGetEncoderUtilization"),
    ({"utilisation": {"decoder": ONES}}, "decoder", "nvmlDeviceGetDecoderUtilization"),
    *(({"temperature": {0: celsius}}, "temperature_c", "nvmlDeviceGetTemperatureV") for celsius in (0, 151, 255, ONES)),
    ({"field": {82: 0}}, "memory_temperature_c", "field 82"),
    ({"field": {82: 255}}, "memory_temperature_c", "field 82"),
    *(({"power_mw": milliwatt}, "power_w", "nvmlDeviceGetPowerUsage") for milliwatt in (0, 1_800_001, ONES)),
    ({"power_limit_mw": 0}, "power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
    ({"power_limit_mw": ONES}, "power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
    ({"energy_mj": ONES_64}, "energy_j", "nvmlDeviceGetTotalEnergyConsumption"),
    ({"clock": {1: ONES}}, "clock_mhz", "nvmlDeviceGetClockInfo"),
    ({"fan": {0: ONES, 1: 65535}}, "fan_percent", "nvmlDeviceGetFanSpeed_v2"),
    ({"fans": ONES, "fan": {0: ONES}}, "fan_percent", "nvmlDeviceGetNumFans"),
    ({"performance_state": 32}, "performance_state", "nvmlDeviceGetPerformanceState"),
    ({"throttle": ONES_64}, "throttle", "nvmlDeviceGetCurrentClocksEventReasons"),
    ({"throttle": ONES}, "throttle_mask", "nvmlDeviceGetCurrentClocksEventReasons"),
    ({"memory": {"total": ONES_64}}, "memory_used_mib", "nvmlDeviceGetMemoryInfo"),
    ({"memory": {"used": 40_000 << 20}}, "memory_used_mib", "nvmlDeviceGetMemoryInfo"),
    ({"memory": {"total": 0, "used": 0}}, "memory_total_mib", "nvmlDeviceGetMemoryInfo"),
    ({"ecc": {"volatile": {"uncorrected": ONES}}}, "ecc_uncorrected", "nvmlDeviceGetTotalEccErrors"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "field", "function"), WRONG)
def test_what_cannot_be_true_is_absent_and_named(nvml, state, field, function):
    nvml.gpu(2, **state)
    with Session() as session:
        now = readings(session)
    assert field not in now[2]
    assert function in now[2]["implausible"]
    assert "problem" not in now[2]
    assert now[1].keys() - {"index"} == now[0].keys() - {"index"}
    assert "implausible" not in now[1]


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"pcie": {"width": 0}}, "width"),
        ({"pcie": {"width": 3}}, "width"),
        ({"pcie": {"generation": 0}}, "generation"),
        ({"pcie": {"generation": ONES}}, "generation"),
        ({"pcie": {"replays": ONES}}, "replays"),
    ],
)
def test_a_link_that_cannot_be(nvml, state, field):
    nvml.gpu(2, **state)
    with Session() as session:
        now = readings(session)
    assert field not in now[2]["pcie"]
    assert field in now[1]["pcie"]


@pytest.mark.parametrize(
    ("state", "path"),
    [
        ({"bar1": {"total": 0, "used": 0}}, ["bar1_mib"]),
        ({"remapped": {"uncorrected": ONES}}, ["remapped_rows"]),
        ({"remapped": {"failed": 7}}, ["remapped_rows"]),
        ({"threshold": {1: ONES}}, ["thresholds_c", "slowdown_c"]),
        ({"threshold": {1: 0}}, ["thresholds_c", "slowdown_c"]),
        ({"violation": {1: ONES_64}}, ["held_down_s", "thermal"]),
        ({"field": {230: ONES}}, ["recovery"]),
        ({"clock_offset": {"memory": 2_000_000}}, ["clock_offsets_mhz", "memory"]),
        ({"numa_node": ONES}, ["numa_node"]),
        ({"pcie": {"generation_max": 0}}, ["pcie", "generation_max"]),
        ({"bus_id": "N/A"}, ["pcie", "bus_id"]),
        ({"bus_id": "Unknown Error"}, ["pcie", "bus_id"]),
        ({"compute": {"major": 0}}, ["compute_capability"]),
    ],
)
def test_what_gpu_detect_shows(nvml, state, path):
    def value(card):
        for name in path:
            card = card.get(name, {})
        return card

    nvml.gpu(2, **state)
    with Session() as session:
        cards = details(session)
    assert value(cards[2]) == {}
    assert value(cards[1]) != {}
    assert len(cards[2]["implausible"]) >= 1


def test_limits_of_what_can_be_true(nvml):
    """Peaks, fans above their maximum, a card that throttles for everything: all of that happens."""
    nvml.gpu(2, utilisation={"gpu": 100}, power_mw=1_700_000, fan={0: 105}, temperature={0: 110}, throttle=0xFFE)
    nvml.gpu(1, temperature={0: 1}, clock={1: 3300}, pcie={"width": 1, "generation": 6, "replays": 2**31 - 1})
    with Session() as session:
        now = readings(session)
    assert not [gpu["index"] for gpu in now if "implausible" in gpu]
    assert now[2]["power_w"] == 1700
    assert now[2]["fan_percent"] == [105, 30]


def test_processes_that_cannot_be(nvml):
    nvml.gpu(2, compute_process={0: f"{ONES} 1", 1: f"77 {1 << 50}", 2: f"78 {1 << 30}"})
    with Session() as session:
        held = readings(session)[2]["processes"]
    assert held == [{"pid": 77, "kind": "compute"}, {"pid": 78, "kind": "compute", "memory_mib": 1024}]


def test_a_count_that_cannot_be(nvml):
    nvml.set(counted=ONES)
    with Session() as session:
        result = facts(session)
    assert (result["count"], result["problem_kind"]) == (0, "unknown")
    assert str(ONES) in result["problem"]


def test_a_text_with_control_characters_stays_in_its_line(nvml):
    nvml.gpu(2, name="NVIDIA\tRTX\x1b[31m 5090")
    with Session() as session:
        assert facts(session)["devices"][2]["name"] == "NVIDIA?RTX?[31m 5090"


def test_the_monitor_goes_on(nvml):
    nvml.gpu(2, utilisation={"gpu": ONES})
    with Session() as session:
        text = monitor.text(monitor.once(session))
    line = next(line for line in text.splitlines()[1:] if line.startswith("  2"))
    assert "-" in line.split()
    assert len(text) < 5000


def test_the_exporter_has_no_such_value(nvml, tmp_path):
    nvml.gpu(2, utilisation={"gpu": ONES}, power_mw=ONES, temperature={0: 255}, pcie={"replays": ONES})
    with Session() as session:
        families = {entry.name: entry.samples for entry in gpus.families(session, Host(tmp_path))}
    for name in ("GPU_UTIL", "POWER_USAGE", "GPU_TEMP", "PCIE_REPLAY_COUNTER"):
        assert [labels["gpu"] for labels, _ in families[f"DCGM_FI_DEV_{name}"]] == ["0", "1", "3"]


def test_health_names_what_was_dropped(box):
    box.nvml.gpu(2, utilisation={"gpu": ONES})
    assert box.bad() == {}
    evidence = [entry["evidence"] for entry in box.health()["checks"] if entry["check"] == "answers"]
    assert "dropped as impossible: nvmlDeviceGetUtilizationRates" in evidence[2]
    assert str(ONES) in evidence[2]
    box.nvml.gpu(2, temperature={0: 255})
    assert box.bad() == {"temperature": {2: "warning"}}
