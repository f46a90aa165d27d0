"""The whole path of readings: fake NVML, our exporter, Debian's node exporter, Debian's Prometheus, its API."""

import json
import re
import time

import pytest
from copied import TOP
from fake_nvml import FakeNvml
from server import Box, Server

from vault_cube.metrics import disks, exposition

DEMO_BOX = "ubuntu-24.04"
BOARDS = sorted(file.stem for file in (TOP / "salt/validation/files/dashboards").glob("*.json"))
# metrics that a machine may lack: sensors in a virtual machine, systemd in a container
MAY_LACK = ("node_hwmon_", "node_systemd_")
# vLLM does not run here; tests/integration/test_layers_in_tree.py compares its names with those of a running vLLM
ELSEWHERE = ("vllm:",)

NVME = {
    "device": {"protocol": "NVMe"}, "model_name": "made up", "serial_number": "1", "smart_status": {"passed": True},
    "nvme_smart_health_information_log": {
        "critical_warning": 0, "available_spare": 100, "percentage_used": 3, "media_errors": 0,
    },
    "temperature": {"current": 44}, "power_on_time": {"hours": 1234},
}  # fmt: skip


@pytest.fixture(scope="module")
def box(nvml_library, tmp_path_factory):
    """A box with eight GPUs of three models, which together have every reading."""
    folder = tmp_path_factory.mktemp("box")
    fake = FakeNvml(folder / "gpus.state", nvml_library)
    fake.profile("8 mixed")
    simulated = Box(folder, fake)
    simulated.log.write_text(
        f"{time.time():.6f} box kernel: NVRM: Xid (PCI:0000:31:00): 79, pid=1, GPU has fallen off\n"
    )
    simulated.read_gpus()
    smartctl = lambda words: {"devices": [{"name": "/dev/nvme0"}]} if words == ["--scan"] else NVME  # noqa: E731
    exposition.write(simulated.readings, "vault-cube-disks", disks.families(smartctl))
    return simulated


@pytest.fixture(scope="module")
def server(box, program, rendered, tmp_path_factory):
    files = [rendered(DEMO_BOX, name) for name in ("prometheus.yml", "alerts.yml")]
    with Server(tmp_path_factory.mktemp("server"), program, box.readings, *files) as running:
        running.until("vault_cube_gpus")
        yield running


@pytest.fixture(scope="module")
def boards(rendered):
    return {name: json.loads(rendered(DEMO_BOX, f"dashboards/{name}.json")) for name in BOARDS}


def test_readings_arrive_with_dcgm_s_names_and_labels(server, box):
    samples = {labels["gpu"]: (labels, value) for labels, value in server.until("DCGM_FI_DEV_GPU_TEMP")}
    assert {gpu: value for gpu, (_, value) in samples.items()} == {
        str(index): gpu["temperature"][0] for index, gpu in enumerate(box.nvml.state["gpus"])
    }
    labels = samples["4"][0]
    assert labels["modelName"] == "NVIDIA H200"
    assert labels["UUID"] == "GPU-5eed0000-0000-4000-8000-000000000004"
    assert (labels["device"], labels["pci_bus_id"]) == ("nvidia4", "00000000:91:00.0")
    assert labels["instance"] == "vault-cube"
    assert server.ask("vault_cube_gpu_simulated")[0][1] == 1


def test_promtool_accepts_the_readings(promtool, box):
    for file in box.readings.glob("*.prom"):
        output = promtool("check", "metrics", given=file.read_text())[1]
        # promtool warns about dcgm-exporter's own names: upper-case metrics, and the label modelName
        assert [line for line in output.splitlines() if "DCGM_FI_DEV" not in line and "camelCase" not in line] == []


def test_a_change_arrives_and_its_alert_is_pending(server, box):
    box.nvml.gpu(2, temperature={0: 86}, throttle=0x24)
    box.read_gpus()
    server.until('DCGM_FI_DEV_GPU_TEMP{gpu="2"}', lambda result: result[0][1] == 86)
    reasons = {labels["reason"] for labels, value in server.ask('vault_cube_gpu_throttled{gpu="2"} == 1')}
    assert reasons == {"sw_power_cap", "sw_thermal_slowdown"}
    pending = server.until('ALERTS{alertname=~"GpuWarm|GpuHot"}', lambda result: len(result) == 2)
    assert {(labels["alertname"], labels["gpu"], labels["alertstate"]) for labels, _ in pending} == {
        ("GpuWarm", "2", "pending"), ("GpuHot", "2", "pending"),
    }  # fmt: skip


def test_an_xid_fires_at_once(server):
    firing = [labels for labels, _ in server.until('ALERTS{alertname="GpuXid",alertstate="firing"}')]
    assert [(labels["gpu"], labels["xid"], labels["modelName"]) for labels in firing] == [
        ("1", "79", "NVIDIA GeForce RTX 5090")
    ]


def test_a_lost_gpu_is_reported_and_the_others_are_read(server, box):
    box.nvml.gpu(6, error={"nvmlDeviceGetTemperature": 15})
    box.read_gpus()
    silent = server.until("vault_cube_gpu_answers == 0")
    assert [labels["gpu"] for labels, _ in silent] == ["6"]
    assert server.until("vault_cube_gpus")[0][1] == 7
    box.nvml.gpu(6, error={"nvmlDeviceGetTemperature": 0})
    box.read_gpus()
    server.until("vault_cube_gpus", lambda result: result[0][1] == 8)


def test_every_rule_is_evaluated_without_an_error(server, alerts):
    server.until("ALERTS")
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(alerts(DEMO_BOX))
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_of_a_dashboard_has_a_result(server, boards, name):
    server.until("count_over_time(up[1m])", lambda result: result[0][1] > 3)
    empty = []
    for panel in boards[name]["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$gpu", ".*")
            if any(part in query for part in ELSEWHERE):
                server.ask(query)  # raises an error if the query does not parse
            elif not server.ask(query) and not any(part in query for part in MAY_LACK):
                empty.append((panel["title"], query))
    assert [(title, query) for title, query in empty if title != "Failed units"] == []


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_consistent(boards, name):
    board = boards[name]
    assert board["uid"] == f"vault-cube-{name}"
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
    known = {variable["name"] for variable in board["templating"]["list"]}
    text = json.dumps(board["panels"])
    assert {"datasource", "instance"} <= known
    assert ("$gpu" in text) == ("gpu" in known)


def test_the_dashboards_colours_change_at_the_alerts_thresholds(boards, salt_of):
    limits = salt_of(DEMO_BOX).opts["pillar"]["validation"]["monitoring"]["alerts"]
    temperature = next(panel for panel in boards["gpus"]["panels"] if panel["title"] == "Temperature")
    steps = [step["value"] for step in temperature["fieldConfig"]["defaults"]["thresholds"]["steps"]]
    assert steps == [None, limits["gpu_warm"]["above"], limits["gpu_hot"]["above"]]


def test_the_state_installs_every_dashboard():
    named = re.search(r"for name in \((.+)\)", (TOP / "salt/validation/alerts.sls").read_text())[1]
    assert re.findall(r"'(\w+)'", named) == BOARDS
