"""The finished layers of a target, entered without a network: every layer.check, each layer applied once more, and
the vLLM service on the CPU.

VAULT_CUBE_TARGET names the target; its layers are in the cache (`make image TARGET=…`); root.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from base_tree import built, chosen_workspace
from copied import merged

from vault_cube.image.cache import keys
from vault_cube.image.layers import chroot, overlay, root
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.workspace import LAYERS, SALT, STAGED

TOP = Path(__file__).parents[2]
TARGET = os.environ.get("VAULT_CUBE_TARGET", "debian-12")
pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]


@pytest.fixture(scope="module")
def space():
    return chosen_workspace(TARGET)


@pytest.fixture(scope="module")
def trees(space):
    return built(space)


@pytest.fixture
def inside(space, trees, tmp_path):
    """inside(words) runs a command in the tree up to a layer, on a fresh upper layer: (exit status, what it said)."""
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()

    def run(words, binds=(), upto=LAYERS[-1], environment=None):
        if upto not in trees:
            told = pytest.fail if os.environ.get("VAULT_CUBE_WAIT") else pytest.skip
            told(f"{space.target}: layer {upto} is not built from this checkout: make image")
        lower = [trees[name] for name in keys.ORDER[: keys.ORDER.index(upto) + 1]]
        log = tmp_path / "log"
        status = chroot.run(
            chroot.Overlay(lower, tmp_path / "upper", tmp_path / "work"), words, what=words[0], log=log,
            mountpoint=tmp_path / "merged", binds=binds, environment=environment, check=False,
        )  # fmt: skip
        return status, log.read_text()

    return run


def checked(inside, layer):
    """What layer.check says in the tree: {case: status}, the failed cases, the exit status."""
    status, said = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "layer.check", layer])
    cases = json.loads(said[said.index("{") :])["local"]["cases"]
    failed = [case for case in cases if case["status"] == "failed"]
    return {case["case"]: case["status"] for case in cases}, failed, status


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_keeps_its_promises_in_the_tree(inside, layer):
    _, failed, status = checked(inside, layer)
    assert failed == []
    assert status == 0


def test_the_frameworks_compute_in_the_tree(inside, space):
    cases, _, _ = checked(inside, "frameworks")
    for name in space.settings.frameworks.checks:
        if space.settings.frameworks.gates.gpus:
            # what a framework computes on the CPU is no pass for its GPUs
            assert cases[f"{name} computes"] == "not applicable here"
            assert cases[f"{name} computes on the CPU"] == "passed"
        else:
            assert cases[f"{name} computes"] == "passed"


@pytest.fixture
def apply(inside, space, tmp_path):
    """apply(layer, changes) applies a layer on its finished tree as the builder does: the states' results."""
    lock = AptLock.read(space.locks / "apt.lock")
    policy = tmp_path / "upper/usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    environment = root.python_environment(lock.epoch)
    environment |= {"APT_CONFIG": "/run/vault-cube/apt/apt.conf", "PYTHONPATH": STAGED}
    call = [f"{SALT}/bin/salt-call", "--local", "-c", "/run/vault-cube/salt", "--log-level=quiet", "--out=json"]
    call += ["--out-file=/run/vault-cube/result.json", "state.apply"]
    folder = tmp_path / "vault-cube"

    def run(layer, **changes):
        shutil.rmtree(folder, ignore_errors=True)
        overlay.stage(space, layer, lock, folder)
        seen = merged(keys.visible_pillar(space, layer), changes)
        (folder / "pillar/seen.sls").write_text("#!yaml\n" + yaml.safe_dump(seen))
        binds = [chroot.Bind(folder, "/run/vault-cube", writable=True)]
        _, said = inside([*call, layer], binds, layer, environment)
        assert (folder / "result.json").is_file(), said
        states = json.loads((folder / "result.json").read_text())["local"]
        assert isinstance(states, dict), states
        return list(states.values())

    return run


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_applied_again_on_the_layer_below_changes_nothing(apply, layer):
    assert [state for state in apply(layer) if state["changes"] or state["result"] is not True] == []


# what `nvidia-ctk runtime configure` does to Docker's configuration; the tool itself cannot be had here
STAND_IN_CTK = """#!/usr/bin/python3
import json, sys
file = "/etc/docker/daemon.json"
with open(file) as handle:
    daemon = json.load(handle)
if "--cdi.enabled" in sys.argv:
    daemon.setdefault("features", {})["cdi"] = True
daemon["runtimes"] = {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}
with open(file, "w") as handle:
    json.dump(daemon, handle)
"""


@pytest.mark.parametrize(("mode", "cgroup_driver"), [("cdi", "systemd"), ("runtime", "cgroupfs")])
def test_docker_is_told_of_the_gpus_and_keeps_its_other_keys(apply, inside, tmp_path, mode, cgroup_driver):
    tool = tmp_path / "upper/usr/bin/nvidia-ctk"
    unit = tmp_path / "upper/usr/lib/systemd/system/nvidia-cdi-refresh.path"
    for file, text in ((tool, STAND_IN_CTK), (unit, "[Path]\nPathChanged=/x\n[Install]\nWantedBy=multi-user.target\n")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    tool.chmod(0o755)
    before = json.loads(inside(["cat", "/etc/docker/daemon.json"], upto="runtime")[1])
    # a package that is there: the toolkit's own come from a repository that cannot be reached here
    chosen = {"provider": "nvidia", "mode": mode, "cgroup_driver": cgroup_driver, "packages": ["docker.io"]}
    first = apply("runtime", runtime=chosen)
    assert [state for state in first if state["result"] is not True] == []
    daemon = json.loads((tmp_path / "upper/etc/docker/daemon.json").read_text())
    assert {key: daemon[key] for key in before} == before
    assert daemon["exec-opts"] == [f"native.cgroupdriver={cgroup_driver}"]
    assert "nvidia" in daemon["runtimes"]
    assert daemon.get("features", {}).get("cdi", False) is (mode == "cdi")
    # the layer below is part of this apply: it takes nothing away again
    assert [
        state for state in apply("runtime", runtime=chosen) if state["changes"] or state["result"] is not True
    ] == []


def test_nothing_drifted_in_the_tree(inside):
    status, said = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "drift.report"])
    assert json.loads(said[said.index("{") :])["local"]["findings"] == []
    assert status == 0


def test_debian_s_driver_is_built_for_the_image_s_kernel_and_held(inside, space):
    if space.settings.driver.provider != "debian":
        pytest.skip(f"{space.target} has no driver of Debian's")
    script = "for k in /lib/modules/*/modules.dep; do modinfo -k $(basename $(dirname $k)) nvidia-current-open; done"
    status, said = inside(["sh", "-euc", f"{script}; apt-mark showhold"], upto="driver")
    assert status == 0, said
    kernel = next(line.split()[1] for line in said.splitlines() if line.startswith("vermagic:"))
    module = next(line.split()[1] for line in said.splitlines() if line.startswith("filename:"))
    assert f"/lib/modules/{kernel}/" in module
    assert any(line.startswith(f"version:        {space.settings.driver.branch}.") for line in said.splitlines()), said
    assert set(space.settings.driver.held) <= set(said.splitlines())


def test_the_vllm_service_answers_a_completion(inside, space):
    if space.settings.frameworks.vllm.environment is None:
        pytest.skip(f"{space.target} carries no vLLM")
    if space.settings.target.accelerator == "nvidia":
        pytest.skip("vLLM's build for CUDA serves on a GPU only, and a tree has none")
    drive = chroot.Bind(TOP / "tests/integration/vllm_drive.py", "/run/vllm_drive.py")
    start = "ip link set lo up && exec /opt/vault-cube/envs/vllm/bin/python -B /run/vllm_drive.py"
    status, said = inside(["sh", "-c", start], [drive])
    assert status == 0, said
    answer = json.loads(said.splitlines()[-1])
    assert answer["usage"]["completion_tokens"] == 8
    assert len(answer["choices"][0]["text"].split()) == 8
    # the board of inference asks for what it has
    board = inside(["cat", "/etc/vault-cube/monitoring/dashboards/inference.json"])[1]
    assert set(re.findall(r"vllm:\w+", board)) - set(answer["metrics"]) == set()
