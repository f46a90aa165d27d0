"""Run commands in the finished layers of a target: layer.check, applying each layer again, the vLLM service on the CPU.

VAULT_CUBE_TARGET names the target. Its layers must be in the cache (run `make image TARGET=…`). Needs root.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from base_tree import built, chosen_workspace, output_in
from copied import merged

from vault_cube.image.cache import keys
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import chroot, overlay, root
from vault_cube.image.workspace import LAYERS, STAGED
from vault_cube.paths import SALT

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
    """inside(words) runs a command in the tree up to a layer, on a new upper layer. Returns exit status and output."""
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()

    def run(words, binds=(), upto=LAYERS[-1], environment=None):
        if upto not in trees:
            report = pytest.fail if os.environ.get("VAULT_CUBE_WAIT") else pytest.skip
            report(f"{space.target}: layer {upto} is missing or out of date: run `make image`")
        lower = [trees[name] for name in keys.ORDER[: keys.ORDER.index(upto) + 1]]
        log = tmp_path / "log"
        status = chroot.run(
            chroot.Overlay(lower, tmp_path / "upper", tmp_path / "work"), words, what=words[0], log=log,
            mountpoint=tmp_path / "merged", binds=binds, environment=environment, check=False,
        )  # fmt: skip
        return status, output_in(log, words)

    return run


def checked(inside, layer):
    """Run layer.check in the tree. Returns the status of each check, the bad verdicts and the exit status."""
    status, output = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "layer.check", layer])
    checks = json.loads(output[output.index("{") :])["local"]["checks"]
    bad = [check for check in checks if check["status"] not in ("ok", "not applicable")]
    return {check["check"]: check["status"] for check in checks}, bad, status


@pytest.mark.parametrize("layer", LAYERS)
def test_all_checks_of_a_layer_pass_in_the_tree(inside, layer):
    _, bad, status = checked(inside, layer)
    assert bad == []
    assert status == 0


def test_the_frameworks_compute_in_the_tree(inside, space):
    checks, _, _ = checked(inside, "frameworks")
    for name in space.settings.frameworks.checks:
        if space.settings.frameworks.gates.gpus:
            # a computation on the CPU does not count as a pass for the GPUs
            assert checks[f"{name} computes"] == "not applicable"
            assert checks[f"{name} computes on the CPU"] == "ok"
        else:
            assert checks[f"{name} computes"] == "ok"


@pytest.fixture
def apply(inside, space, tmp_path):
    """apply(layer, **changes) applies a layer to its finished tree, as the builder does. Returns the states."""
    inputs = Inputs.read(space)
    chroot.block_daemons(tmp_path / "upper")
    environment = root.python_environment(inputs.packages.epoch)
    environment |= {"APT_CONFIG": "/run/vault-cube/apt/apt.conf", "PYTHONPATH": STAGED}
    call = [f"{SALT}/bin/salt-call", "--local", "-c", "/run/vault-cube/salt", "--log-level=quiet", "--out=json"]
    call += ["--out-file=/run/vault-cube/result.json", "state.apply"]
    folder = tmp_path / "vault-cube"

    def run(layer, **changes):
        shutil.rmtree(folder, ignore_errors=True)
        overlay.stage(space, inputs, layer, folder)
        seen = merged(keys.visible_pillar(space, layer), changes)
        (folder / "pillar/seen.sls").write_text("#!yaml\n" + yaml.safe_dump(seen))
        binds = [chroot.Bind(folder, "/run/vault-cube", writable=True)]
        _, output = inside([*call, layer], binds, layer, environment)
        assert (folder / "result.json").is_file(), output
        states = json.loads((folder / "result.json").read_text())["local"]
        assert isinstance(states, dict), states
        return list(states.values())

    return run


@pytest.mark.parametrize("layer", LAYERS)
def test_applying_a_finished_layer_again_changes_nothing(apply, layer):
    assert [state for state in apply(layer) if state["changes"] or state["result"] is not True] == []


# changes Docker's configuration as `nvidia-ctk runtime configure` does; the tool itself is not available here
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
def test_docker_is_configured_for_gpus_and_keeps_its_other_keys(apply, inside, tmp_path, mode, cgroup_driver):
    tool = tmp_path / "upper/usr/bin/nvidia-ctk"
    units = tmp_path / "upper/usr/lib/systemd/system"
    install = "[Install]\nWantedBy=multi-user.target\n"
    for file, text in (
        (tool, STAND_IN_CTK),
        (units / "nvidia-cdi-refresh.path", f"[Path]\nPathChanged=/x\n{install}"),
        (units / "nvidia-cdi-refresh.service", f"[Service]\nType=oneshot\nExecStart=/bin/true\n{install}"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    tool.chmod(0o755)
    before = json.loads(inside(["cat", "/etc/docker/daemon.json"], upto="runtime")[1])
    # an available package: the toolkit's packages are in a repository that cannot be reached here
    chosen = {"provider": "nvidia", "mode": mode, "cgroup_driver": cgroup_driver, "packages": ["docker.io"]}
    first = apply("runtime", runtime=chosen)
    assert [state for state in first if state["result"] is not True] == []
    daemon = json.loads((tmp_path / "upper/etc/docker/daemon.json").read_text())
    assert {key: daemon[key] for key in before} == before
    assert daemon["exec-opts"] == [f"native.cgroupdriver={cgroup_driver}"]
    assert "nvidia" in daemon["runtimes"]
    assert daemon.get("features", {}).get("cdi", False) is (mode == "cdi")
    # this also applies the layer below, which must not undo the change
    assert [
        state for state in apply("runtime", runtime=chosen) if state["changes"] or state["result"] is not True
    ] == []


def test_drift_report_finds_nothing_in_the_tree(inside):
    status, output = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "drift.report"])
    assert json.loads(output[output.index("{") :])["local"]["findings"] == []
    assert status == 0


def test_debian_s_driver_is_built_for_the_image_s_kernel_and_held(inside, space):
    if space.settings.driver.provider != "debian":
        pytest.skip(f"{space.target} does not use Debian's driver")
    script = "for k in /lib/modules/*/modules.dep; do modinfo -k $(basename $(dirname $k)) nvidia-current-open; done"
    status, output = inside(["sh", "-euc", f"{script}; apt-mark showhold"], upto="driver")
    assert status == 0, output
    lines = output.splitlines()
    kernel = next(line.split()[1] for line in lines if line.startswith("vermagic:"))
    module = next(line.split()[1] for line in lines if line.startswith("filename:"))
    assert f"/lib/modules/{kernel}/" in module
    assert any(line.startswith(f"version:        {space.settings.driver.branch}.") for line in lines), output
    assert set(space.settings.driver.held) <= set(lines)


def test_the_vllm_service_answers_a_completion(inside, space):
    if space.settings.frameworks.vllm.environment is None:
        pytest.skip(f"{space.target} has no vLLM")
    if space.settings.target.accelerator == "nvidia":
        pytest.skip("vLLM's build for CUDA needs a GPU, and a tree has none")
    drive = chroot.Bind(TOP / "tests/integration/vllm_drive.py", "/run/vllm_drive.py")
    start = "ip link set lo up && exec /opt/vault-cube/envs/vllm/bin/python -B /run/vllm_drive.py"
    status, output = inside(["sh", "-c", start], [drive])
    assert status == 0, output
    answer = json.loads(output.splitlines()[-1])
    assert answer["usage"]["completion_tokens"] == 8
    assert len(answer["choices"][0]["text"].split()) == 8
    # all metrics of the inference dashboard exist
    board = inside(["cat", "/etc/vault-cube/monitoring/dashboards/inference.json"])[1]
    assert set(re.findall(r"vllm:\w+", board)) - set(answer["metrics"]) == set()
