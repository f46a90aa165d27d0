"""gpu.reset: what holds the GPUs is stopped, the GPU is reset, and what ran is started again, whatever happens."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.gpu import verbs
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.reset import reset

ACTIVE = ["vault-cube-gpus.timer", "nvidia-persistenced.service"]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(nvidia_smi=…) puts a systemctl and an nvidia-smi on PATH that note how they were called."""
    notes = tmp_path / "notes"
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def make(smi="echo GPU was successfully reset.", stop="exit 0"):
        notes.write_text("")
        for name, body in {
            "systemctl": f'case "$1" in is-active) case "$3" in {"|".join(ACTIVE)}) exit 0;; *) exit 3;; esac;; '
            f'stop) echo "systemctl $*" >> {notes}; {stop};; *) echo "systemctl $*" >> {notes};; esac',
            "nvidia-smi": f'echo "nvidia-smi $*" >> {notes}; {smi}',
        }.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        return lambda: notes.read_text().splitlines()

    return make


ALL = [
    "systemctl stop vault-cube-gpus.timer", "systemctl stop nvidia-persistenced.service",
    "nvidia-smi --gpu-reset -i 00000000:51:00.0",
    "systemctl start nvidia-persistenced.service", "systemctl start vault-cube-gpus.timer",
]  # fmt: skip


def ask(box, index=2, test=False):
    with Session() as session:
        return reset(session, box.settings().gpu.reset, index, test=test, machine=box.host)


def test_in_this_order(box, programs):
    calls = programs()
    result = ask(box)
    assert calls() == ALL
    assert result == {"gpu": 2, "commands": ALL, "reset": True, "message": "GPU was successfully reset."}


def test_nothing_is_done_in_test_mode(box, programs):
    calls = programs()
    assert ask(box, test=True) == {"gpu": 2, "commands": ALL}
    assert calls() == []


def test_services_run_again_when_the_reset_failed(box, programs):
    calls = programs(smi="echo 'In use by another client' >&2; exit 255")
    result = ask(box)
    assert calls() == ALL
    assert (result["reset"], result["message"]) == (False, "In use by another client")
    assert "fuser" in result["todo"]


def test_services_run_again_when_one_does_not_stop(box, programs):
    calls = programs(stop='[ "$2" != nvidia-persistenced.service ] || { echo no >&2; exit 1; }')
    with pytest.raises(VaultCubeError, match=r"nvidia-persistenced\.service does not stop: no"):
        ask(box)
    assert calls() == [*ALL[:2], ALL[4]]


def test_a_gpu_in_use_is_not_reset(box, programs):
    calls = programs()
    box.host.process(4711, "python", "/user.slice")
    box.nvml.gpu(2, compute_process={0: f"4711 {1 << 30}"})
    with pytest.raises(VaultCubeError, match="GPU 2 is used by python 4711"):
        ask(box)
    assert calls() == []
    assert ask(box, index=1)["reset"]


@pytest.mark.parametrize("index", [4, 99, -1])
def test_a_gpu_that_is_not_there(box, programs, index):
    programs()
    with pytest.raises(VaultCubeError, match="the driver lists 4"):
        ask(box, index=index)


def test_not_from_inside_a_service_that_holds_the_gpus(box, programs):
    calls = programs()
    box.host.write("proc/self/cgroup", "0::/system.slice/salt-minion.service\n")
    with pytest.raises(VaultCubeError, match=r"salt-call --local gpu\.reset 2"):
        ask(box)
    assert calls() == []


@pytest.mark.parametrize("fault", [{"error": 16}, {"error": 999}, {"hang": {"nvmlDeviceGetPciInfo_v3": 1}}])
def test_a_sick_gpu_is_reset(box, programs, fault):
    calls = programs()
    box.nvml.gpu(2, **fault)
    with Session(0.5) as session:
        assert reset(session, box.settings().gpu.reset, 2, test=False, machine=box.host)["reset"]
    assert next(call for call in calls() if call.startswith("nvidia-smi")).startswith("nvidia-smi --gpu-reset -i ")


def test_the_exit_code(box, programs):
    programs(smi="exit 1")
    assert verbs.reset(box.settings(), 2, test=False).exit_code == 1
    programs()
    assert verbs.reset(box.settings(), 2, test=False).exit_code == 0
    assert verbs.reset(box.settings(), 2, test=True).exit_code == 0
