"""The finished layers of debian-12, entered without a network: every layer.check, and the vLLM service on the CPU.

Needs the layers in the cache (`make image`) and root.
"""

import json
import os
from pathlib import Path

import pytest
import yaml

from vault_cube.image import cache, chroot, keys
from vault_cube.image.workspace import Workspace
from vault_cube.settings import check

TOP = Path(__file__).parents[2]
pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]


def merged(into, more):
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(into.get(key), dict)
        into[key] = merged(into[key], value) if both else value
    return into


@pytest.fixture(scope="module")
def layers():
    """The trees of the finished layers, bottom first."""
    files = [TOP / "pillar/box.sls", TOP / "pillar/targets/debian-12.sls", TOP / "pillar/local.sls"]
    pillar = {}
    for file in files:
        if file.is_file():
            merged(pillar, yaml.safe_load(file.read_text()))
    space = Workspace(TOP, check(pillar), pillar)
    found = [cache.find(space.layers, key.key) for key in keys.layer_keys(space).values()]
    if not all(found):
        pytest.skip("debian-12 is not built from this checkout: make image")
    return [entry.tree for entry in found]


@pytest.fixture
def inside(layers, tmp_path):
    """inside(words, bind) runs a command in the tree on a fresh upper layer: (exit status, what it printed)."""
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()

    def run(words, binds=()):
        log = tmp_path / "log"
        status = chroot.run(
            chroot.Overlay(layers, tmp_path / "upper", tmp_path / "work"), words,
            what=words[0], log=log, mountpoint=tmp_path / "merged", binds=binds, check=False,
        )  # fmt: skip
        return status, log.read_text()

    return run


@pytest.mark.parametrize("layer", ["base", "driver", "runtime", "frameworks", "validation"])
def test_a_layer_keeps_its_promises_in_the_tree(inside, layer):
    status, said = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "layer.check", layer])
    found = json.loads(said[said.index("{") :])["local"]
    wrong = [case for case in found["cases"] if case["status"] == "failed"]
    assert not wrong
    assert status == 0


def test_all_three_frameworks_compute_in_the_tree(inside):
    said = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "layer.check", "frameworks"])[1]
    cases = {case["case"]: case for case in json.loads(said[said.index("{") :])["local"]["cases"]}
    for framework in ("pytorch", "tensorflow", "vllm"):
        assert cases[f"{framework} computes"]["status"] == "passed", cases[f"{framework} computes"]


def test_nothing_drifted_in_the_tree(inside):
    status, said = inside(["salt-call", "--local", "--log-level=quiet", "--out=json", "drift.report"])
    assert json.loads(said[said.index("{") :])["local"]["findings"] == []
    assert status == 0


def test_the_vllm_service_answers_a_completion(inside):
    drive = chroot.Bind(TOP / "tests/integration/vllm_drive.py", "/run/vllm_drive.py")
    start = "ip link set lo up && exec /opt/vault-cube/envs/vllm/bin/python -B /run/vllm_drive.py"
    status, said = inside(["sh", "-c", start], [drive])
    assert status == 0, said
    answer = json.loads(said.splitlines()[-1])
    assert answer["usage"]["completion_tokens"] == 8
    assert len(answer["choices"][0]["text"].split()) == 8
