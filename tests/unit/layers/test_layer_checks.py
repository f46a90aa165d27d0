"""layer.check: verdicts held against the pillar's gates, on machines that answer as told."""

import json
import subprocess
from pathlib import Path

import pytest

from vault_cube import checks
from vault_cube.checks import base, driver, frameworks, runtime, validation


class Box(checks.Place):
    """A live box with so many GPUs."""

    cards = 0

    @property
    def gpus(self):
        return self.cards


@pytest.fixture
def box(pillar, monkeypatch):
    """box(cards) is the demo box with so many GPUs; every command succeeds and says nothing."""
    answers = {}

    def command(words, seconds, **options):
        status, said = answers.get(words[0], (0, ""))
        return subprocess.CompletedProcess(words, status, said, said)

    for module in (checks, driver, runtime, frameworks):
        monkeypatch.setattr(module, "command", command)

    def make(cards, live=True):
        place = Box(pillar("ubuntu-24.04"), live)
        object.__setattr__(place, "cards", cards)
        return place

    make.answers = answers
    return make


def with_nvcc(folder):
    """Put an nvcc, which only has to be there, where CUDA 13's wheel has it. Returns its path."""
    compiler = folder / "vllm/lib/python3.12/site-packages/nvidia/cu13/bin/nvcc"
    compiler.parent.mkdir(parents=True)
    compiler.touch()
    return compiler


def by_case(verdicts):
    return {one.case: one for one in verdicts}


# gates 3 and 4 of the box's acceptance: the case that tries each, and what it is held against (gate 2: gpu.validate's)
GATES = [
    (driver, "kernel log", "0 errors"),
    (driver, "nvcc", "compiles and runs"),
    (driver, "held together", "driver:held"),
    (runtime, "GPUs in a container", "4 (runtime:gates:gpus)"),
    (runtime, "one GPU each, together", "2 (runtime:gates:together)"),
    (frameworks, "pytorch computes", "4 GPU(s) (frameworks:gates:gpus)"),
    (frameworks, "tensorflow computes", "4 GPU(s) (frameworks:gates:gpus)"),
    (frameworks, "vllm computes", "4 GPU(s) (frameworks:gates:gpus)"),
]


def test_every_gate_is_a_case_with_its_threshold(box, tmp_path, monkeypatch):
    place = box(4)
    place.pillar["frameworks"]["folder"] = str(tmp_path)
    with_nvcc(tmp_path)
    monkeypatch.setattr(driver, "verdicts", lambda *_, **__: [])
    monkeypatch.setattr(runtime, "image", lambda: None)
    monkeypatch.setattr(runtime, "run_words", lambda _, gpu, words: ["echo", f"GPU 0: (UUID: GPU-{gpu})"])
    box.answers["docker"] = (0, "null")
    said = {module: by_case(module.cases(place)) for module in (driver, runtime, frameworks)}
    for module, case, threshold in GATES:
        assert said[module][case].status != checks.NOT_APPLICABLE
        assert said[module][case].threshold.startswith(threshold)
    assert said[runtime]["one GPU each, together"].status == checks.PASSED


def test_an_xid_in_the_kernel_s_log_fails(box):
    box.answers["journalctl"] = (0, "usb 1-1: new device\nNVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus\n")
    assert driver.kernel_log().status == checks.FAILED


def test_in_a_tree_what_needs_a_system_is_not_applicable(box):
    said = by_case(driver.cases(box(0, live=False)))
    for case in ("GPUs as expected", "kernel log", "nvcc"):
        assert said[case].status == checks.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("cards", "live", "compiled", "ran", "status", "says"),
    [
        (4, True, (0, ""), (0, "496"), checks.PASSED, "sum 496"),
        (4, True, (0, ""), (3, ""), checks.FAILED, "the GPU did not run the kernel"),
        (4, True, (0, ""), (0, "495"), checks.FAILED, "exit code 0"),
        # without a GPU a compiler that cannot work fails all the same, and one that can proves nothing about GPUs
        (0, True, (0, ""), None, checks.NOT_APPLICABLE, "compiles for sm_120 (blackwell)"),
        (0, False, (0, ""), None, checks.NOT_APPLICABLE, "compiles for sm_120 (blackwell)"),
        (0, False, (1, "nvcc fatal: error: no g++\ncompilation terminated."), None, checks.FAILED, "error: no g++"),
        (4, True, (1, "a.h:3: #error incompatible headers\n1 error detected"), None, checks.FAILED, "incompatible"),
        (4, True, (1, "gcc: No such file or directory"), None, checks.FAILED, "gcc: No such file"),
    ],
)
def test_nvcc(box, tmp_path, monkeypatch, cards, live, compiled, ran, status, says):
    place = box(cards, live)
    place.pillar["frameworks"]["folder"] = str(tmp_path)
    compiler = with_nvcc(tmp_path)
    words = []

    def command(called, seconds, **options):
        words.append(called)
        code, text = compiled if called[0] == str(compiler) else ran
        return subprocess.CompletedProcess(called, code, text, text if code else "")

    monkeypatch.setattr(driver, "command", command)
    found = driver.nvcc(place)
    assert (found.status, says in found.evidence) == (status, True), found
    # machine code for the GPU that is there: the driver may be too old for this compiler's PTX
    assert words[0][1] == ("-arch=native" if cards else "-arch=sm_120")
    assert words[0][2:4] == ["-L", str(compiler.parents[1] / "lib")]
    assert len(words) == (2 if ran else 1)


def test_no_nvcc_is_not_applicable(box, tmp_path, monkeypatch):
    place = box(4)
    place.pillar["frameworks"]["folder"] = str(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = driver.nvcc(place)
    assert (found.status, "no CUDA compiler" in found.evidence) == (checks.NOT_APPLICABLE, True)


def test_a_target_without_gpus_never_passes_what_it_did_not_try(pillar):
    for module, layer in ((driver, "driver"), (runtime, "runtime")):
        found = checks.summary(layer, list(module.cases(checks.Place(pillar("debian-12"), live=False))))
        assert found["verdict"] == checks.NOT_APPLICABLE
        assert found["counts"][checks.PASSED] == 0


@pytest.mark.parametrize(
    ("daemon", "status"),
    [
        ({"features": {"cdi": True}, "exec-opts": ["native.cgroupdriver=systemd"], "ip": "127.0.0.1"}, checks.PASSED),
        ({"features": {"cdi": True}}, checks.FAILED),
        ({"exec-opts": ["native.cgroupdriver=systemd"]}, checks.FAILED),
        (None, checks.FAILED),
    ],
)
def test_docker_s_configuration(pillar, daemon, status):
    assert runtime.configured(pillar("ubuntu-24.04")["runtime"], daemon).status == status


def test_a_runtime_entry_is_asked_for_where_docker_has_no_cdi(pillar):
    chosen = {**pillar("ubuntu-24.04")["runtime"], "mode": "runtime", "cgroup_driver": "cgroupfs"}
    daemon = {
        "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    }
    assert runtime.configured(chosen, daemon).status == checks.PASSED
    assert runtime.configured(chosen, {**daemon, "runtimes": {}}).status == checks.FAILED
    assert "--runtime" in runtime.run_words(chosen, "0", "true")


def cdi(library, names=("all", "0", "1")):
    node = {"path": "/dev/null"}
    devices = [{"name": name, "containerEdits": {"deviceNodes": [node]}} for name in names]
    shared = {"mounts": [{"hostPath": str(library), "containerPath": "/x"}]}
    return {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices, "containerEdits": shared}


@pytest.mark.parametrize(
    ("spec", "status", "says"),
    [
        (cdi, checks.PASSED, "nvidia.com/gpu: 0, 1, all"),
        (lambda library: cdi(library, ["all", "0"]), checks.FAILED, "no device nvidia.com/gpu=1"),
        (lambda library: {**cdi(library), "kind": "example.com/gpu"}, checks.FAILED, "no device nvidia.com/gpu=all"),
        (lambda library: cdi(f"{library}.550"), checks.FAILED, "libcuda.so.550 is gone"),
        (lambda library: {"devices": None}, checks.FAILED, "no CDI specification"),
        (lambda library: [], checks.FAILED, "no CDI specification"),
        (None, checks.FAILED, "no device nvidia.com/gpu=all"),
    ],
)
def test_a_cdi_specification_names_what_is_there(tmp_path, spec, status, says):
    (tmp_path / "libcuda.so").touch()
    (tmp_path / "cdi").mkdir()
    if spec:
        (tmp_path / "cdi/nvidia.yaml").write_text(json.dumps(spec(tmp_path / "libcuda.so")))
    said = runtime.specification([tmp_path / "cdi", tmp_path / "nowhere"], 2)
    assert (said.status, says in said.evidence) == (status, True), said


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ((0, '["/etc/cdi","/var/run/cdi"]'), [Path("/etc/cdi"), Path("/var/run/cdi")]),
        ((0, "null"), "Docker looks for none: features.cdi is not on"),
        ((1, "can't evaluate field CDISpecDirs"), "Docker does not say where it looks for them: can't evaluate field"),
    ],
)
def test_where_docker_looks_for_cdi(box, answer, found):
    box.answers["docker"] = answer
    said = runtime.cdi_folders()
    assert said == found or str(said).startswith(str(found))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"version": "2.13.0", "gpus": 4, "right": 4}, checks.PASSED),
        ({"version": "2.13.0", "gpus": 3, "right": 3}, checks.FAILED),
        ({"version": "2.13.0", "gpus": 4, "right": 3}, checks.FAILED),
        (None, checks.FAILED),
    ],
)
def test_a_framework_computes_on_every_gpu(box, said, status):
    place = box(4)
    python = f"{place.pillar['frameworks']['folder']}/pytorch/bin/python"
    box.answers[python] = (0, json.dumps(said)) if said else (1, "ImportError: no torch")
    (found,) = frameworks.computes(place, "pytorch", "pytorch")
    assert found.status == status


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"version": "2.13.0", "gpus": 0, "right": 1}, checks.PASSED),
        ({"version": "2.13.0", "gpus": 0, "right": 0}, checks.FAILED),
        ({"version": "2.13.0", "gpus": 4, "right": 4}, checks.FAILED),
        ({"version": "0.32.0", "gpus": 0, "right": 1, "note": "no text without a GPU"}, checks.PASSED),
        (None, checks.FAILED),
    ],
)
def test_in_a_tree_a_framework_computes_on_the_cpu_and_proves_nothing_about_gpus(box, said, status):
    place = box(0, live=False)
    python = f"{place.pillar['frameworks']['folder']}/pytorch/bin/python"
    box.answers[python] = (0, json.dumps(said)) if said else (1, "ImportError: libcuda.so.1: no such file")
    found = by_case(frameworks.computes(place, "pytorch", "pytorch"))
    assert found["pytorch computes"].status == checks.NOT_APPLICABLE
    assert found["pytorch computes on the CPU"].status == status
    assert found["pytorch computes on the CPU"].evidence.endswith((said or {}).get("note", ""))


def test_a_live_box_whose_driver_shows_no_gpu_computes_nothing(box):
    (found,) = frameworks.computes(box(0), "pytorch", "pytorch")
    assert (found.status, found.case) == (checks.NOT_APPLICABLE, "pytorch computes")


def test_a_missing_environment_says_what_to_do(pillar):
    changed = pillar("debian-12", {"frameworks": {"folder": "/nonexistent"}})
    said = frameworks.intact(checks.Place(changed, live=False), "pytorch")
    assert said.status == checks.FAILED
    assert "state.apply frameworks" in said.evidence


def test_a_box_that_does_not_know_what_it_is_fails(pillar, tmp_path):
    changed = pillar("debian-12", {"validation": {"manifest": str(tmp_path / "m.json"), "checkout": str(tmp_path)}})
    place = checks.Place(changed, live=False)
    assert checks.PASSED not in {one.status for one in validation.cases(place)}
    (tmp_path / "m.json").write_text(
        json.dumps({"name": "vault-cube-demo-box", "version": "0.0.9", "target": "debian-12"})
    )
    said = by_case(validation.cases(place))["manifest"]
    assert "version is 0.0.9" in said.evidence


def test_one_failed_case_fails_the_layer():
    good, bad = checks.verdict("a", True, ""), checks.verdict("b", False, "")
    assert checks.summary("x", [good, bad])["verdict"] == checks.FAILED
    assert checks.summary("x", [good, checks.not_applicable("c", "")])["verdict"] == checks.PASSED
    assert checks.summary("x", [])["verdict"] == checks.NOT_APPLICABLE
    assert "failed" in checks.table(checks.summary("x", [bad]))


def test_every_framework_that_a_target_checks_has_its_program(pillar):
    for target in ("debian-12", "debian-13", "debian-13-nvidia", "ubuntu-24.04"):
        for framework in pillar(target)["frameworks"]["checks"].values():
            assert (frameworks.PROGRAMS / f"{framework}.py").is_file()
            assert Path(frameworks.PROGRAMS).name == "compute"


@pytest.mark.parametrize(
    ("said", "status", "evidence"),
    [
        ("curl installed\nlibc6 installed\n", checks.PASSED, "all 2 are"),
        ("curl config-files\nlibc6 installed\n", checks.FAILED, "missing: curl"),
        ("", checks.FAILED, "missing: curl libc6:amd64"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, said, status, evidence):
    answer = subprocess.CompletedProcess([], 1 if evidence.startswith("missing") else 0, said, "")
    monkeypatch.setattr(base, "command", lambda *_, **__: answer)
    found = base.packages(["curl", "libc6:amd64"])
    assert (found.status, found.evidence, found.threshold) == (status, evidence, "base:packages")


def test_a_long_last_line_keeps_its_end_for_there_stands_the_cause():
    path = "/run/containerd/" + "5" * 400
    said = checks.last_line(f"a warning\ndocker: {path}: fork/exec /usr/bin/nvidia-container-runtime: no such file\n\n")
    assert said.startswith("docker: /run/containerd/5")
    assert said.endswith(" fork/exec /usr/bin/nvidia-container-runtime: no such file")
    assert len(said) == 300
    assert checks.last_line("one\n two \n") == "two"
    assert checks.last_line("\n") == ""
