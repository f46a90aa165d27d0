"""Every layer of every target renders with the target's grains, and uses the recorded names of packages and keys."""

import json

import pytest
import rendered
from copied import TOP, distribution, minion, salt_call

TARGETS = sorted(path.name.removesuffix(".sls") for path in (TOP / "pillar/targets").glob("*.sls"))
LAYERS = ("base", "driver", "runtime", "frameworks", "validation")

# Source of the names: packages.ubuntu.com (noble, sources nvidia-graphics-drivers-580 and linux-restricted-modules); of
# repository and key: NVIDIA's Container Toolkit install guide. These tests do not query the archives themselves.
UBUNTU_DRIVER = {"linux-modules-nvidia-580-open-generic", "nvidia-headless-no-dkms-580-open", "nvidia-utils-580"}
TOOLKIT_URI = "URIs: https://nvidia.github.io/libnvidia-container/stable/deb/amd64"
TOOLKIT_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"


@pytest.fixture(scope="module")
def low(salt_of):
    """low(target) returns all states of a target as low chunks, in order; other tests have rendered them, too."""
    return lambda target: rendered.low(salt_of(target))


def test_a_run_without_arguments_applies_all_layers(low, tmp_path):
    conf = minion(tmp_path, "debian-12", grains=distribution("debian-12"))
    ran = salt_call(conf, "--out=json", "--log-level=quiet", "state.show_lowstate", cwd=TOP)
    states = {(chunk["__sls__"], chunk["__id__"], chunk["fun"]) for chunk in json.loads(ran.stdout)["local"]}
    assert states == {(chunk["__sls__"], chunk["__id__"], chunk["fun"]) for chunk in low("debian-12")}


@pytest.mark.parametrize("target", TARGETS)
def test_every_layer_renders(low, target):
    chunks = low(target)
    assert all(isinstance(chunk, dict) for chunk in chunks), chunks
    assert {chunk["__sls__"].partition(".")[0] for chunk in chunks} >= set(LAYERS)


@pytest.mark.parametrize("target", TARGETS)
def test_no_file_is_managed_by_two_states(low, target):
    files = [chunk["name"] for chunk in low(target) if chunk["state"] == "file" and chunk["fun"] == "managed"]
    assert len(files) == len(set(files)), sorted(name for name in files if files.count(name) > 1)


# nvidia-ctk can say what Docker's settings would be, but not whether they are so
CONDITIONS = {"ubuntu-24.04": {"Docker passes GPUs to containers"}}


@pytest.mark.parametrize("target", TARGETS)
def test_a_run_without_changes_evaluates_no_condition(low, target):
    """To evaluate one, Salt loads all its modules: 1 s. Beside onchanges, it does so only after a change."""
    conditional = {
        chunk["__id__"]
        for chunk in low(target)
        if {"unless", "onlyif", "creates"} & chunk.keys() and not {"onchanges", "onchanges_any"} & chunk.keys()
    }
    assert conditional == CONDITIONS.get(target, set())


def by_id(chunks):
    return {f"{chunk['state']} {chunk['name']}": chunk for chunk in chunks}


def test_the_demo_box_uses_the_recorded_names(low):
    chunks = low("ubuntu-24.04")
    packages = {str(name) for chunk in chunks if chunk["fun"] == "installed" for name in chunk.get("pkgs", [])}
    assert packages >= UBUNTU_DRIVER
    held = {name for chunk in chunks if chunk["state"] == "held" for name in chunk["packages"]}
    assert held >= UBUNTU_DRIVER
    states = by_id(chunks)
    assert TOOLKIT_URI in states["file /etc/apt/sources.list.d/nvidia-container-toolkit.sources"]["contents"]
    assert states["keyring /usr/share/keyrings/nvidia-container-toolkit.asc"]["fingerprint"] == TOOLKIT_KEY
    pins = states["file /etc/apt/preferences.d/nvidia-container-toolkit"]["contents"]
    assert pins.endswith('Package: *\nPin: origin "nvidia.github.io"\nPin-Priority: -1\n')
    assert "unit nvidia-persistenced.service" in states


@pytest.mark.parametrize("target", ["ubuntu-24.04", "debian-13-nvidia"])
def test_without_its_gpu_a_box_boots_without_failed_units(low, target):
    states = by_id(low(target))
    persistence = states["file /etc/systemd/system/nvidia-persistenced.service.d/vault-cube.conf"]["contents"]
    assert "0x10de /sys/bus/pci/devices/*/vendor" in persistence
    modules_load = states["file /etc/systemd/system/systemd-modules-load.service.d/vault-cube.conf"]["contents"]
    assert "SuccessExitStatus=1" in modules_load


def test_a_cpu_box_has_nothing_from_nvidia(low):
    for target in ("debian-12", "debian-13"):
        text = json.dumps([chunk for chunk in low(target) if chunk["__sls__"].startswith(("driver", "runtime"))])
        assert "nvidia" not in text


def test_debian_s_own_driver_needs_no_vendor_repository(low):
    chunks = low("debian-13-nvidia")
    assert not [chunk for chunk in chunks if chunk["state"] == "keyring"]
    names = {str(name) for chunk in chunks if chunk["fun"] == "installed" for name in chunk.get("pkgs", [])}
    assert {"nvidia-open-kernel-dkms", "linux-headers-amd64", "linux-image-amd64"} <= names
