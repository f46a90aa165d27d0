"""What a person types, through salt-call: table or JSON, exit code by verdict, one line where there is no GPU."""

import importlib.util
import json
from pathlib import Path

import pytest
from copied import TOP, minion, salt_call

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.topology import topology
from vault_cube.gpu.show import tables

# the checkout's pillar for the production box, without what needs root or Docker
LOCAL = {"runtime": {"provider": "none", "packages": [], "mode": None, "cgroup_driver": None, "repositories": []}}

# beside a driver of the machine's own the fake's is the second one, and that is a fault
alone = pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has NVIDIA's driver")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """config(target) is a minion of its own over this checkout's modules and pillar."""
    folders = {}

    def make(target):
        if target not in folders:
            folders[target] = minion(tmp_path_factory.mktemp(target), target, local=LOCAL)
        return folders[target]

    return make


def answer(ran):
    return json.loads(ran.stdout)["local"]


@alone
def test_health_and_its_grain(config, nvml):
    folder = config("ubuntu-24.04")
    nvml.gpu(1, throttle=0x48)
    ran = salt_call(folder, "--out=json", "gpu.health", environment=nvml.environment)
    result = answer(ran)
    assert (ran.returncode, result["verdict"], result["simulated"]) == (2, "fault", True)
    grain = answer(salt_call(folder, "--out=json", "grains.item", "gpu_health", "gpu", environment=nvml.environment))
    assert grain["gpu_health"]["verdict"] == "fault"
    assert [(entry["check"], entry["gpu"]) for entry in grain["gpu_health"]["bad"]] == [("throttling", 1)]
    assert 0 <= grain["gpu_health"]["age_s"] < 120
    assert grain["gpu"]["count"] == 4
    assert grain["gpu"]["simulated"] is True


@alone
@pytest.mark.parametrize(("throttle", "code", "word"), [(0x1, 0, "ok:"), (0x20, 1, "WARNING:"), (0x40, 2, "FAULT:")])
def test_the_exit_code_is_the_verdict(config, nvml, throttle, code, word):
    nvml.gpu(0, throttle=throttle)
    ran = salt_call(config("ubuntu-24.04"), "gpu.health", environment=nvml.environment)
    assert ran.returncode == code, ran.stdout
    assert ran.stdout.splitlines()[1].strip().startswith(word)


@pytest.mark.parametrize("verb", ["gpu.detect", "gpu.topology", "gpu.health", "gpu.validate"])
def test_a_lost_driver_on_a_box_with_gpus(config, nvml, verb):
    nvml.set(init_error=18)
    ran = salt_call(config("ubuntu-24.04"), verb, environment=nvml.environment)
    assert ran.returncode > 0
    assert "differ in version" in ran.stdout


@alone
@pytest.mark.parametrize("verb", ["gpu.detect", "gpu.topology", "gpu.health", "gpu.validate"])
def test_a_machine_without_a_driver_answers_in_one_line(config, nvml, verb):
    # the library without its file says what NVIDIA's says where the module is not loaded
    environment = nvml.environment | {"FAKE_NVML": "/nonexistent"}
    ran = salt_call(config("debian-12"), verb, environment=environment)
    assert ran.returncode == 0, ran.stdout
    lines = [line for line in ran.stdout.splitlines() if "kernel module nvidia is not loaded" in line]
    assert len(lines) == 1, ran.stdout


def test_a_reset_shows_its_commands(config, nvml):
    folder = config("ubuntu-24.04")
    ran = salt_call(folder, "--out=json", "gpu.reset", "2", "test=True", environment=nvml.environment)
    result = answer(ran)
    assert (ran.returncode, result["gpu"]) == (0, 2)
    assert "nvidia-smi --gpu-reset -i 00000000:51:00.0" in result["commands"]
    assert "reset" not in result


@pytest.mark.parametrize(("gpu", "says"), [("7", "there is no GPU 7"), ("two", "two")])
def test_an_impossible_reset_is_one_line(config, nvml, gpu, says):
    ran = salt_call(config("ubuntu-24.04"), "gpu.reset", gpu, environment=nvml.environment)
    assert ran.returncode != 0
    assert says in ran.stdout + ran.stderr


def test_topology_shows_the_transport_of_nccl(config, nvml):
    result = answer(salt_call(config("ubuntu-24.04"), "--out=json", "gpu.topology", environment=nvml.environment))
    assert result["links"]["0-3"] == {"read": "chipset not supported", "write": "chipset not supported", "p2p": False,
                                     "path": "NODE"}  # fmt: skip
    assert result["nccl"]["transport"] == "SHM"


def test_a_bridge_and_a_switch(nvml):
    bridge = {link: {"state": 1, "version": 7, "remote": "00000000:31:00.0"} for link in range(4)}
    nvml.state["gpus"] = nvml.state["gpus"][:2]
    nvml.state["gpus"][0] |= {"nvlink": bridge, "p2p": {1: {0: 0, 1: 0}}}
    nvml.save()
    with Session() as session:
        result = topology(session)
        assert result["links"]["0-1"] == {"read": "ok", "write": "ok", "p2p": True, "path": "NV4", "nvlinks": 4}
        assert result["nccl"]["transport"] == "P2P over NVLink"
        assert tables.topology(result).splitlines()[1].split()[:3] == ["GPU0", "X", "NV4*"]
        nvml.gpu(0, nvlink={link: {"state": 1, "remote_type": 2, "remote": None} for link in range(18)})
        assert topology(session)["links"]["0-1"]["path"] == "NV18"


@pytest.mark.parametrize(
    ("profile", "ancestor", "transport"),
    [
        # four cards below an Epyc's host bridges: NCCL takes shared memory, though the driver allows peer to peer
        ("4x RTX PRO 6000", 40, "SHM"),
        ("4x RTX PRO 6000", 30, "SHM"),
        ("4x RTX PRO 6000", 50, "SHM"),
        ("4x RTX PRO 6000", 20, "P2P over PCIe"),
        ("4x RTX PRO 6000", 10, "P2P over PCIe"),
        ("4x5090", 10, "SHM"),
    ],
)
def test_nccl_s_choice_by_path(nvml, tmp_path, profile, ancestor, transport):
    nvml.profile(profile)
    for index, gpu in enumerate(nvml.state["gpus"]):
        gpu["ancestor"] = {other: ancestor for other in range(4) if other != index}
    nvml.save()
    with Session() as session:
        assert topology(session, Host(tmp_path))["nccl"]["transport"] == transport


@pytest.mark.parametrize(("vendor", "transport"), [("AuthenticAMD", "P2P over PCIe"), ("GenuineIntel", "SHM")])
def test_nccl_trusts_two_cards_on_amd(nvml, tmp_path, vendor, transport):
    nvml.profile("4x RTX PRO 6000")
    nvml.state["gpus"] = nvml.state["gpus"][:2]
    nvml.save()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nvendor_id\t: {vendor}\n")
    with Session() as session:
        assert topology(session, Host(tmp_path))["nccl"]["transport"] == transport


@pytest.mark.parametrize("bus_id", ["N/A", "", "Unknown Error", "0000:zz:00.0"])
def test_an_address_that_is_none_is_absent(nvml, tmp_path, bus_id):
    nvml.gpu(2, bus_id=bus_id)
    with Session() as session:
        result = topology(session, Host(tmp_path))
        assert "bus_id" not in result["gpus"][2]
        assert "GPU2" in tables.topology(result)
        assert "bus_id" not in facts(session)["devices"][2]["pcie"]


def grain(name, cachedir):
    spec = importlib.util.spec_from_file_location(f"{name}_grain", TOP / f"_grains/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"cachedir": str(cachedir)}
    return getattr(module, name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"started": 7}', "\x00\xff"])
def test_a_broken_result_is_no_grain(tmp_path, text):
    assert grain("gpu_health", tmp_path)() == {}
    (tmp_path / "gpu_health.json").write_text(text)
    assert grain("gpu_health", tmp_path)() == {}


def test_the_grain_never_raises(nvml, tmp_path, monkeypatch):
    monkeypatch.setattr("vault_cube.gpu.read.facts.facts", lambda session: 1 / 0)
    result = grain("gpu", tmp_path)()["gpu"]
    assert (result["count"], result["accelerator"]) == (0, "cpu")
    assert "ZeroDivisionError" in result["problem"]
