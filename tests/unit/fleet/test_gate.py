"""The box's gate: which functions and arguments of the master's it lets through."""

import importlib.util
import json
from pathlib import Path

import pytest

from vault_cube.settings import check

TOP = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def gate():
    spec = importlib.util.spec_from_file_location("fleet_gate", TOP / "_executors/fleet_gate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.log.disabled = True
    return module


def keywords(**values):
    return {"__kwarg__": True, **values}


ALLOWED = [
    ("test.ping", []),
    ("grains.item", ["gpu", "gpu_health"]),
    ("grains.get", ["gpu:devices"]),
    ("saltutil.find_job", ["20261129164122123456"]),
    ("gpu.health", []),
    ("gpu.health", [True]),
    ("gpu.health", [keywords(load=True, window_s=0.5)]),
    ("gpu.benchmark", ["ddp,matmul", keywords(quick=True)]),
    ("gpu.benchmark", ["ddp", keywords(boxes=2, rendezvous="192.0.2.11")]),
    ("gpu.benchmark", [keywords(suite="ddp", boxes=2, rendezvous="box-1.example.org")]),
    ("layer.check", ["base"]),
    ("state.apply", []),
    ("state.apply", ["validation", keywords(test=True)]),
    ("checkout.update", [keywords(commit="a" * 40, sha256="b" * 64)]),
]
REFUSED = [
    ("cmd.run", ["id"], "may not run"),
    ("gpu.reset", [0], "may not run"),
    ("state.sls", ["base"], "may not run"),
    ("state.apply ", [], "may not run"),
    ("gpu.benchmark", ["ddp", keywords(boxes=2, rendezvous="192.0.2.11:22")], "rendezvous is not allowed"),
    ("gpu.benchmark", ["ddp", keywords(boxes=2, rendezvous="--rdzv-conf=x")], "rendezvous is not allowed"),
    ("gpu.benchmark", ["ddp", keywords(boxes="2 --help", rendezvous="b1")], "boxes is not allowed"),
    ("gpu.benchmark", ["ddp", keywords(boxes=2, rendezvous="b1", port=22)], "port is not allowed"),
    ("saltutil.sync_all", [], "may not run"),
    ("sys.reload_modules", [], "may not run"),
    (["test.ping", "cmd.run"], [[], ["id"]], "one function"),
    (["test.ping"], [[]], "one function"),
    (None, [], "one function"),
    ({"test.ping": 1}, [], "one function"),
    ("state.apply", [keywords(pillar={"base": {}})], "pillar is not allowed"),
    ("state.apply", [keywords(saltenv="dev")], "saltenv is not allowed"),
    ("state.apply", [keywords(localconfig="/tmp/x")], "localconfig is not allowed"),
    ("state.apply", ["../../tmp/x"], "mods is not allowed"),
    ("state.apply", ["base,evil"], "mods is not allowed"),
    ("state.apply", [["base"]], "mods is not allowed"),
    ("state.apply", ["base", True, {}], "at most 2"),
    ("state.apply", ["base", keywords(mods="driver")], "given twice"),
    ("layer.check", ["base\n"], "layer is not allowed"),
    ("layer.check", [{"layer": "base"}], "layer is not allowed"),
    ("layer.check", "base", "have to be a list"),
    ("layer.check", None, "have to be a list"),
    ("gpu.health", [keywords(load="True --out=pickle")], "load is not allowed"),
    ("gpu.health", [keywords(window_s=1e300)], "window_s is not allowed"),
    ("gpu.benchmark", ["--config-dir=/tmp"], "suite is not allowed"),
    ("grains.item", ["--x"], "is not allowed"),
    ("test.ping", ["x"], "at most 0"),
    ("checkout.update", [keywords(commit="a" * 40, sha256="b" * 64, file="/etc/passwd")], "file is not allowed"),
    ("checkout.update", [keywords(commit="../" * 13 + "a", sha256="b" * 64)], "commit is not allowed"),
]


@pytest.mark.parametrize(("fun", "arg"), ALLOWED)
def test_the_fleet_may(gate, fun, arg):
    assert gate.refusal(fun, arg, list(gate.ARGUMENTS)) is None


@pytest.mark.parametrize(("fun", "arg", "why"), REFUSED)
def test_the_fleet_may_not(gate, fun, arg, why):
    assert why in gate.refusal(fun, arg, list(gate.ARGUMENTS))


def test_the_owner_of_a_box_can_allow_less(gate):
    assert "fleet:allow" in gate.refusal("state.apply", [], ["test.ping"])
    assert gate.refusal("test.ping", [], ["test.ping"]) is None


def test_every_function_of_the_pillar_passes_the_gate(gate, pillar):
    fleet = check(pillar("debian-12")).fleet
    assert set(fleet.allow) == set(gate.ARGUMENTS)
    for name, role in fleet.server.roles:
        assert set(role.boxes) <= set(fleet.allow), name


class Packed(dict):
    """`__salt__` of the loader: functions, and `pack` with the context."""

    def __init__(self, **functions):
        super().__init__({name.replace("__", "."): function for name, function in functions.items()})
        self.pack = {"__context__": {"retcode": 0}}


def run(gate, tmp_path, job, script, **functions):
    """Run a job with a stand-in for salt-call. Returns the result and the exit code."""
    salt_call = tmp_path / "salt-call"
    salt_call.write_text(f"#!/bin/sh\n{script}\n")
    salt_call.chmod(0o755)
    gate.__salt__ = Packed(**functions)
    opts = {"fleet_gate": {"allow": list(gate.ARGUMENTS), "salt_call": [str(salt_call)]}}
    result = gate.execute(opts, {"user": "vera", "arg": [], **job}, lambda *args: ("daemon", *args), (), {})
    return result, gate.__salt__.pack["__context__"]["retcode"]


def test_the_box_s_functions_run_in_a_salt_call_of_its_own(gate, tmp_path):
    script = """printf '{"local": "%s"}' "$*"; exit 2"""
    result, status = run(gate, tmp_path, {"fun": "gpu.health", "arg": [True]}, script)
    assert result.endswith("gpu.health load=True")
    assert result.startswith("--local --retcode-passthrough --out=json")
    assert status == 2


@pytest.mark.parametrize(
    ("script", "result", "status"),
    [
        ("echo '[ERROR] x' >&2; echo 'the pillar is broken' >&2; exit 1", "the pillar is broken", 1),
        ("exit 0", "salt-call ended with status 0", 1),
        ("echo '[1, 2]'", "[1, 2]", 1),
        ("echo '{\"local\": null}'", "", 0),
        ("kill -9 $$", "salt-call ended with status -9", -9),
    ],
)
def test_what_salt_call_fails_to_return_is_one_line(gate, tmp_path, script, result, status):
    assert run(gate, tmp_path, {"fun": "gpu.health"}, script) == (result, status)


def test_the_daemon_runs_its_own_functions_itself(gate, tmp_path):
    assert run(gate, tmp_path, {"fun": "test.ping"}, "exit 9") == (("daemon",), 0)


def test_a_refused_job_runs_nothing(gate, tmp_path):
    result, status = run(gate, tmp_path, {"fun": "cmd.run", "arg": ["id"]}, f"touch {tmp_path}/ran")
    assert result.startswith("refused: cmd.run")
    assert status == gate.REFUSED
    assert not (tmp_path / "ran").exists()


def test_an_update_fetches_the_release_and_removes_the_archive(gate, tmp_path):
    archive = tmp_path / "archive.tar"
    archive.write_text("x")
    job = {"fun": "checkout.update", "arg": [keywords(commit="a" * 40, sha256="b" * 64)]}
    asked = []

    def cache_file(url):
        asked.append(url)
        return str(archive)

    result, _ = run(gate, tmp_path, job, """printf '{"local": "%s"}' "$*" """, cp__cache_file=cache_file)
    assert asked == [f"salt://releases/{'a' * 40}.tar{end}" for end in ("", ".sig")]
    assert f"file={archive}" in result
    assert not archive.exists()


def test_a_release_that_the_master_does_not_have(gate, tmp_path):
    job = {"fun": "checkout.update", "arg": [keywords(commit="a" * 40, sha256="b" * 64)]}
    result, status = run(gate, tmp_path, job, "exit 0", cp__cache_file=lambda url: False)
    assert (result, status) == (f"the master has no release {'a' * 40}", 1)


def test_only_functions_of_the_box_may_be_missing_in_the_daemon(gate):
    assert gate.allow_missing_func("gpu.health")
    assert not gate.allow_missing_func("test.ping")
    assert not gate.allow_missing_func("cmd.run")


def test_the_gate_needs_no_other_file(gate):
    lines = (TOP / "_executors/fleet_gate.py").read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert not [line for line in imports if "vault_cube" in line], json.dumps(imports)
