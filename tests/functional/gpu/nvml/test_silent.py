"""A GPU that is listed and answers nothing useful is a silent GPU for every reader, whatever code it gives."""

import pytest

from vault_cube.gpu import verbs
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.topology import topology
from vault_cube.gpu.show import monitor
from vault_cube.gpu.watch import Watch
from vault_cube.metrics import gpus

VITAL = ("nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2")
SILENT = {
    "unknown error": {"error": 999},
    "a stale handle": {"error": 2},
    "not supported": {"error": 3},
    "not permitted": {"error": 4},
    "time-out": {"error": 10},
    "interrupts": {"error": 11},
    "a code of a driver to come": {"error": 77},
    "name, UUID and memory alone": {"error": dict.fromkeys(VITAL, 999)},
    "lost": {"error": 15},
    "needs a reset": {"error": 16},
    "no handle": {"handle_error": 999},
    "no power": {"handle_error": 8},
}
LIVE = [
    f"nvmlDeviceGet{name}"
    for name in (
        "MemoryInfo", "MemoryInfo_v2", "Temperature", "TemperatureV", "PowerUsage", "UtilizationRates", "ClockInfo",
        "CurrentClocksEventReasons", "CurrentClocksThrottleReasons", "TotalEccErrors", "EnforcedPowerLimit",
        "PowerManagementLimitConstraints", "PowerManagementDefaultLimit", "TotalEnergyConsumption", "FieldValues",
        "PerformanceState", "FanSpeed", "FanSpeed_v2", "EncoderUtilization", "DecoderUtilization", "PersistenceMode",
        "CurrPcieLinkGeneration", "CurrPcieLinkWidth", "MaxPcieLinkGeneration", "MaxPcieLinkWidth", "EccMode",
        "GpuMaxPcieLinkGeneration", "PcieReplayCounter", "ComputeRunningProcesses_v3", "GraphicsRunningProcesses_v3",
        "MigMode", "ComputeMode", "DisplayActive", "BAR1MemoryInfo", "RemappedRows", "RetiredPages_v2", "MaxClockInfo",
        "TemperatureThreshold", "MarginTemperature", "ViolationStatus", "ApplicationsClock", "GpcClkVfOffset",
        "DefaultApplicationsClock", "MemClkVfOffset", "NvLinkState", "PowerSource", "RowRemapperHistogram",
        "SramEccErrorStatus", "DefaultEccMode", "RetiredPagesPendingStatus",
    )
]  # fmt: skip


@pytest.mark.parametrize("fault", SILENT.values(), ids=SILENT)
def test_it_is_silent_everywhere(box, fault):
    box.nvml.gpu(2, **fault)
    with Session() as session:
        result = facts(session, box.host)
        assert [entry["index"] for entry in result["devices"] if "problem" in entry] == [2]
        assert result["problem_kind"] == "gpu"
        assert "GPU 2" in result["problem"]
        assert [entry["index"] for entry in readings(session, full=False) if "problem" in entry] == [2]
        assert [entry["index"] for entry in topology(session, box.host)["gpus"] if "problem" in entry] == [2]
        families = {entry.name: entry.samples for entry in gpus.families(session, box.host)}
        assert [value for _, value in families["vault_cube_gpu_answers"]] == [1, 1, 0, 1]
        assert [value for _, value in families["vault_cube_gpus"]] == [3]
        assert [value for _, value in families["vault_cube_gpu_problem"]] == [1]
        assert result["problem"].removeprefix("GPU 2: ") in monitor.text(monitor.once(session))
    assert box.bad() == {"answers": {2: "fault"}}


@pytest.mark.parametrize("fault", [{"error": 999}, {"error": 2}])
@pytest.mark.parametrize("verb", ["detect", "topology", "monitor"])
def test_the_exit_code_shows_a_silent_gpu(box, fault, verb):
    box.nvml.gpu(2, **fault)
    options = {"every_s": None} if verb == "monitor" else {}
    assert getattr(verbs, verb)(box.settings(), **options).exit_code == 1
    box.nvml.gpu(2, error=0)
    assert getattr(verbs, verb)(box.settings(), **options).exit_code == 0


def test_what_the_library_remembers_is_no_sign_of_life(box):
    """NVML gives a lost card's name and address from its own memory."""
    box.nvml.gpu(2, error=dict.fromkeys(LIVE, 999))
    with Session() as session:
        result = facts(session, box.host)["devices"][2]
    assert result["name"] == "NVIDIA GeForce RTX 5090"
    assert result["kind"] == "silent"
    assert box.bad() == {"answers": {2: "fault"}}


def test_external_power_is_named(box):
    box.nvml.gpu(2, handle_error=8)
    finding = next(entry for entry in box.health()["checks"] if entry["check"] == "answers" and entry["gpu"] == 2)
    assert "external power" in finding["evidence"]
    assert "plug" in finding["todo"]


def test_a_corrupted_inforom_is_no_failure_of_the_gpu(box):
    box.be("h200")
    box.nvml.gpu(0, error={"nvmlDeviceGetTotalEccErrors": 14})
    with Session() as session:
        now = readings(session)[0]
    assert "errors" not in now
    assert "problem" not in now
    assert box.bad() == {"inforom": {0: "warning"}}
    box.nvml.gpu(0, error={"nvmlDeviceGetTotalEccErrors": 0}, inforom_corrupted=1)
    assert box.bad() == {"inforom": {0: "warning"}}


def test_the_beacon_reports_it_and_its_return(nvml, tmp_path):
    watch = Watch(Session(), Host(tmp_path))
    assert watch.look() == []
    nvml.gpu(2, error=999)
    (event,) = watch.look()
    assert (event["tag"], event["what"]) == ("lost", "GPU 2")
    assert watch.look() == []
    nvml.gpu(2, error=0)
    assert [entry["tag"] for entry in watch.look()] == ["back"]
    watch.close()


def test_a_gpu_that_only_lacks_much_is_not_silent(nvml):
    """A virtual GPU has name, UUID and memory, and little more."""
    for field in ("temperature", "power_mw", "utilisation", "clock", "throttle", "pcie", "fans", "fan", "field"):
        nvml.state["gpus"][2][field] = None
    nvml.save()
    with Session() as session:
        assert "problem" not in readings(session)[2]
        assert facts(session)["devices"][2]["memory_mib"] == 32607
