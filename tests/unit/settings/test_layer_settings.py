"""The schema's cross-checks of layers 2 to 4: inconsistent values are rejected before the build."""

from pathlib import Path

import pytest

from vault_cube.settings import PillarError, check

TARGETS = sorted(file.stem if file.suffix == ".sls" else file.name for file in Path("pillar/targets").glob("*.sls"))
HELD = ["linux-image-generic", "linux-modules-nvidia-580-open-generic", "nvidia-headless-no-dkms-580-open",
        "nvidia-utils-580"]  # fmt: skip
CUDA_REPOSITORY = {
    "name": "cuda",
    "uri": "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64/",
    "suite": "/",
    "components": [],
    "keyring": {
        "url": "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64/3bf863cc.pub",
        "sha256": None,
        "fingerprint": "EB693B3035CD5710E231E123A4B469963BF863CC",
    },
    "pin": {"packages": ["nvidia-*"], "version": None, "origin": "developer.download.nvidia.com"},
}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_valid(pillar, target):
    settings = check(pillar(target))
    assert settings.target.name == target


@pytest.mark.parametrize(
    ("target", "section", "changes", "message"),
    [
        ("ubuntu-24.04", "driver", {"branch": "570"}, "CUDA 13.0 needs driver 580 or newer, not 570"),
        ("ubuntu-24.04", "driver", {"fallbacks": []}, "driver:fallbacks: no such key"),
        ("ubuntu-24.04", "driver", {"branch": "550", "cuda": None}, "blackwell GPUs need driver 570 or newer, not 550"),
        ("ubuntu-24.04", "driver", {"modules": "proprietary"}, "need the open kernel modules"),
        ("ubuntu-24.04", "driver", {"cuda": {"toolkit": "13.0", "cudnn": "9.8"}}, "needs cuDNN 9.12 or newer, not 9.8"),
        ("ubuntu-24.04", "driver", {"cuda": {"toolkit": "14.0", "cudnn": "9.20"}}, "not in the table"),
        ("ubuntu-24.04", "driver", {"repositories": [CUDA_REPOSITORY]}, "do not mix sources"),
        ("ubuntu-24.04", "driver", {"packages": ["nvidia-utils-580", "nvidia-open"]}, "comes from provider nvidia"),
        ("ubuntu-24.04", "driver", {"provider": "nvidia", "packages": ["nvidia-open"]}, "do not mix sources"),
        (
            "ubuntu-24.04", "driver", {"held": [*HELD, "linux-headers-generic"]},
            "driver:held names linux-headers-generic, which is in neither driver:packages nor base:packages",
        ),
        ("ubuntu-24.04", "driver", {"held": ["linux-image-amd64", *HELD, "nvidia-settings"]},
         "driver:held names linux-image-amd64, nvidia-settings, which"),
        ("ubuntu-24.04", "driver", {"held": HELD[:-1]}, "driver: held lacks nvidia-utils-580"),
        ("debian-13-nvidia", "driver", {"held": ["linux-image-amd64"]}, "held lacks linux-headers-amd64, "),
        ("debian-13-nvidia", "driver", {"packages": ["nvidia-smi"]}, "driver:held names linux-headers-amd64, "),
        ("debian-13-nvidia", "driver", {"packages": ["nvidia-utils-580"]}, "comes from provider ubuntu"),
        ("debian-12", "driver", {"packages": ["nvidia-smi"]}, "provider none installs no driver: leave packages empty"),
        ("debian-12", "driver", {"surprise": 1}, "driver:surprise: no such key"),
        ("ubuntu-24.04", "runtime", {"mode": "runtime", "cgroup_driver": "systemd"}, "use cgroupfs"),
        ("ubuntu-24.04", "runtime", {"packages": []}, "needs packages, mode and cgroup_driver"),
        ("debian-12", "runtime", {"mode": "cdi"}, "provider none configures nothing"),
        ("debian-13-nvidia", "runtime", {"mode": "runtime", "cgroup_driver": "cgroupfs"}, "needs mode cdi"),
        ("debian-13-nvidia", "runtime", {"cgroup_driver": None}, "needs mode cdi and cgroup_driver"),
        ("debian-13-nvidia", "runtime", {"repositories": [CUDA_REPOSITORY]}, "and no repositories"),
        ("debian-12", "frameworks", {"checks": {"jax": "jax"}}, "no such environment: jax"),
        ("debian-12", "frameworks", {"kernels": ["pytorch"]}, "does not require ipykernel"),
        ("debian-12", "frameworks", {"vllm": {"host": "0.0.0.0"}}, "frameworks:vllm:host"),
        ("debian-13", "frameworks", {"vllm": {"enabled": True}}, "vllm:environment is null"),
        ("debian-12", "frameworks", {"commands": {"torchrun": ["pytorch"]}}, "needs an environment and a program"),
    ],
)  # fmt: skip
def test_inconsistent_values_are_rejected(pillar, target, section, changes, message):
    with pytest.raises(PillarError) as error:
        check(pillar(target, {section: changes}))
    lines = str(error.value).splitlines()
    assert any(message in line for line in lines), lines


@pytest.mark.parametrize("target", TARGETS)
def test_held_packages_are_installed_and_the_driver_s_packages_are_held(pillar, target):
    chosen = pillar(target)
    installed = {*chosen["base"]["packages"], *chosen["driver"]["packages"]}
    assert {*chosen["driver"]["packages"]} <= {*chosen["driver"]["held"]} <= installed
    assert chosen["base"]["kernel"]["package"] in installed


def test_nvidia_s_own_repository_is_a_provider(pillar):
    driver = {
        "provider": "nvidia", "packages": ["nvidia-open"], "held": ["nvidia-open"],
        "repositories": [CUDA_REPOSITORY],
    }  # fmt: skip
    settings = check(pillar("ubuntu-24.04", {"driver": driver}))
    assert settings.driver.repositories[0].keyring.fingerprint.startswith("EB69")
