"""layer.check: verdicts against the pillar's thresholds, on machines whose answers each test sets."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from vault_cube import box as boxes
from vault_cube import verdicts as checks
from vault_cube.box import base, driver, frameworks, runtime, validation


class Box(boxes.Place):
    """A box with a given number of GPUs."""

    cards = 0

    @property
    def gpus(self):
        return self.cards


@pytest.fixture
def box(pillar, monkeypatch):
    """box(cards) is the demo box with that number of GPUs. Commands print nothing unless a test sets answers."""
    answers = {}

    def command(words, seconds, **options):
        status, output = answers.get(words[0], (0, ""))
        return subprocess.CompletedProcess(words, status, output, output)

    for module in (boxes, driver, runtime, frameworks):
        monkeypatch.setattr(module, "command", command)

    def make(cards, live=True):
        place = Box(pillar("ubuntu-24.04"), live)
        object.__setattr__(place, "cards", cards)
        return place

    make.answers = answers
    return make


def with_nvcc(folder):
    """Create an empty nvcc where CUDA 13's wheel has it. Returns its path."""
    compiler = folder / "vllm/lib/python3.12/site-packages/nvidia/cu13/bin/nvcc"
    compiler.parent.mkdir(parents=True)
    compiler.touch()
    return compiler


def by_case(verdicts):
    return {each.case: each for each in verdicts}


# gates 3 and 4 of the box's acceptance: the case that checks each, and its threshold (gpu.validate checks gate 2)
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
    verdicts = {module: by_case(module.cases(place)) for module in (driver, runtime, frameworks)}
    for module, case, threshold in GATES:
        assert verdicts[module][case].status != checks.NOT_APPLICABLE
        assert verdicts[module][case].threshold.startswith(threshold)
    assert verdicts[runtime]["one GPU each, together"].status == checks.PASSED


def test_an_xid_in_the_kernel_log_fails(box):
    box.answers["journalctl"] = (0, "usb 1-1: new device\nNVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus\n")
    assert driver.kernel_log().status == checks.FAILED


def test_in_a_tree_checks_of_a_running_system_are_not_applicable(box):
    verdicts = by_case(driver.cases(box(0, live=False)))
    for case in ("GPUs as expected", "kernel log", "nvcc"):
        assert verdicts[case].status == checks.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("cards", "live", "compiled", "ran", "status", "evidence"),
    [
        (4, True, (0, ""), (0, "496"), checks.PASSED, "sum 496"),
        (4, True, (0, ""), (3, ""), checks.FAILED, "the GPU did not run the kernel"),
        (4, True, (0, ""), (0, "495"), checks.FAILED, "exit code 0"),
        # without a GPU a broken compiler still fails, and a working one proves nothing about GPUs
        (0, True, (0, ""), None, checks.NOT_APPLICABLE, "compiles for sm_120 (blackwell)"),
        (0, False, (0, ""), None, checks.NOT_APPLICABLE, "compiles for sm_120 (blackwell)"),
        (0, False, (1, "nvcc fatal: error: no g++\ncompilation terminated."), None, checks.FAILED, "error: no g++"),
        (4, True, (1, "a.h:3: #error incompatible headers\n1 error detected"), None, checks.FAILED, "incompatible"),
        (4, True, (1, "gcc: No such file or directory"), None, checks.FAILED, "gcc: No such file"),
    ],
)
def test_nvcc_compiles_and_runs_a_program(box, tmp_path, monkeypatch, cards, live, compiled, ran, status, evidence):
    place = box(cards, live)
    place.pillar["frameworks"]["folder"] = str(tmp_path)
    compiler = with_nvcc(tmp_path)
    words = []

    def command(called, seconds, **options):
        words.append(called)
        code, text = compiled if called[0] == str(compiler) else ran
        return subprocess.CompletedProcess(called, code, text, text if code else "")

    monkeypatch.setattr(driver, "command", command)
    verdict = driver.nvcc(place)
    assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict
    # machine code for the installed GPU: the driver may be too old for this compiler's PTX
    assert words[0][1] == ("-arch=native" if cards else "-arch=sm_120")
    assert words[0][2:4] == ["-L", str(compiler.parents[1] / "lib")]
    assert len(words) == (2 if ran else 1)


def test_a_missing_nvcc_is_not_applicable(box, tmp_path, monkeypatch):
    place = box(4)
    place.pillar["frameworks"]["folder"] = str(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = driver.nvcc(place)
    assert (verdict.status, "no CUDA compiler" in verdict.evidence) == (checks.NOT_APPLICABLE, True)


def test_on_a_target_without_gpus_no_gpu_check_passes(pillar):
    for module, layer in ((driver, "driver"), (runtime, "runtime")):
        report = checks.summary(layer, list(module.cases(boxes.Place(pillar("debian-12"), live=False))))
        assert report["verdict"] == checks.NOT_APPLICABLE
        assert report["counts"][checks.PASSED] == 0


@pytest.mark.parametrize(
    ("daemon", "status"),
    [
        ({"features": {"cdi": True}, "exec-opts": ["native.cgroupdriver=systemd"], "ip": "127.0.0.1"}, checks.PASSED),
        ({"features": {"cdi": True}}, checks.FAILED),
        ({"exec-opts": ["native.cgroupdriver=systemd"]}, checks.FAILED),
        (None, checks.FAILED),
    ],
)
def test_docker_s_configuration_must_match_the_pillar(pillar, daemon, status):
    assert runtime.configured(pillar("ubuntu-24.04")["runtime"], daemon).status == status


@pytest.mark.parametrize("place", [{"cards": 0}, {"cards": 4, "live": False}], ids=["no card", "a tree"])
@pytest.mark.parametrize("target", ["ubuntu-24.04", "debian-13-nvidia"])
def test_without_a_gpu_checks_in_containers_are_not_applicable(box, pillar, place, target):
    place = box(**place)
    place.pillar["runtime"].update(pillar(target)["runtime"])
    verdicts = by_case(runtime.cases(place))
    del verdicts["Docker's configuration"]
    assert {"CDI specification", "GPUs in a container", "one GPU each, together"} < set(verdicts)
    assert {each.status for each in verdicts.values()} == {checks.NOT_APPLICABLE}


def test_mode_runtime_needs_a_runtime_entry_in_dockers_configuration(pillar):
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
    ("spec", "status", "evidence"),
    [
        (cdi, checks.PASSED, "nvidia.com/gpu: 0, 1, all"),
        (lambda library: cdi(library, ["all", "0"]), checks.FAILED, "no device nvidia.com/gpu=1"),
        (lambda library: {**cdi(library), "kind": "example.com/gpu"}, checks.FAILED, "no device nvidia.com/gpu=all"),
        (lambda library: cdi(f"{library}.550"), checks.FAILED, "libcuda.so.550 does not exist"),
        (lambda library: {"devices": None}, checks.FAILED, "not a CDI specification"),
        (lambda library: [], checks.FAILED, "not a CDI specification"),
        (None, checks.FAILED, "no device nvidia.com/gpu=all"),
    ],
)
def test_a_cdi_specification_needs_all_devices_and_existing_paths(tmp_path, spec, status, evidence):
    (tmp_path / "libcuda.so").touch()
    (tmp_path / "cdi").mkdir()
    if spec:
        (tmp_path / "cdi/nvidia.yaml").write_text(json.dumps(spec(tmp_path / "libcuda.so")))
    for provider, unit in (("nvidia", "nvidia-cdi-refresh"), ("vault-cube", "vault-cube-cdi")):
        verdict = runtime.specification([tmp_path / "cdi", tmp_path / "nowhere"], 2, provider)
        assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict
        assert (unit in verdict.evidence) is (status == checks.FAILED)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((0, '["/etc/cdi","/var/run/cdi"]'), [Path("/etc/cdi"), Path("/var/run/cdi")]),
        ((0, "null"), "Docker does not use CDI: features.cdi is not true"),
        ((1, "can't evaluate field CDISpecDirs"), "docker info does not list the CDI folders: can't evaluate field"),
    ],
)
def test_dockers_cdi_folders_are_read(box, answer, expected):
    box.answers["docker"] = answer
    folders = runtime.cdi_folders()
    assert folders == expected or str(folders).startswith(str(expected))


@pytest.mark.parametrize(
    ("answer", "status", "evidence"),
    [
        ((0, "\tlibcuda.so.1 => /lib/libcuda.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)"), checks.PASSED, "/lib/"),
        ((0, "\tlibcuda.so.1 => /lib/libcuda.so.1 (0x1)\n\tlibm.so.6 => not found"), checks.FAILED, "/lib/"),
        ((0, "ERROR: ld.so: object 'libcuda.so.1' from --preload cannot be preloaded"), checks.FAILED, "cannot be"),
        ((0, ""), checks.FAILED, "not found"),
        ((125, "docker: unresolvable CDI devices nvidia.com/gpu=all"), checks.FAILED, "unresolvable"),
    ],
    ids=["loads", "a library is missing", "libcuda is missing", "no output", "no such device"],
)
def test_cuda_s_library_loads_in_a_container(box, answer, status, evidence):
    box.answers["docker"] = answer
    verdict = runtime.cuda_library(box(4).pillar["runtime"])
    assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict


def test_the_check_s_image_has_a_shell_and_no_part_of_a_driver(box, monkeypatch):
    archives = []
    box.answers["docker"] = (1, "no such image")
    monkeypatch.setattr(runtime.subprocess, "run", lambda *_, input, **__: archives.append(input))
    runtime.image()
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as tar:
        names = set(tar.getnames())
        assert {"bin", "lib64", "usr/bin/sh", "usr/lib64/ld-linux-x86-64.so.2"} <= names
        assert all(entry.isfile() for entry in tar if entry.name.startswith("usr/"))
    assert not [name for name in names if "nvidia" in name or "cuda" in name]


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"version": "2.13.0", "gpus": 4, "right": 4}, checks.PASSED),
        ({"version": "2.13.0", "gpus": 3, "right": 3}, checks.FAILED),
        ({"version": "2.13.0", "gpus": 4, "right": 3}, checks.FAILED),
        (None, checks.FAILED),
    ],
)
def test_a_framework_computes_on_every_gpu(box, result, status):
    place = box(4)
    python = f"{place.pillar['frameworks']['folder']}/pytorch/bin/python"
    box.answers[python] = (0, json.dumps(result)) if result else (1, "ImportError: no torch")
    (verdict,) = frameworks.computes(place, "pytorch", "pytorch")
    assert verdict.status == status


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"version": "2.13.0", "gpus": 0, "right": 1}, checks.PASSED),
        ({"version": "2.13.0", "gpus": 0, "right": 0}, checks.FAILED),
        ({"version": "2.13.0", "gpus": 4, "right": 4}, checks.FAILED),
        ({"version": "0.32.0", "gpus": 0, "right": 1, "note": "no text without a GPU"}, checks.PASSED),
        (None, checks.FAILED),
    ],
)
def test_in_a_tree_a_framework_computes_on_the_cpu_only(box, result, status):
    place = box(0, live=False)
    python = f"{place.pillar['frameworks']['folder']}/pytorch/bin/python"
    box.answers[python] = (0, json.dumps(result)) if result else (1, "ImportError: libcuda.so.1: no such file")
    verdicts = by_case(frameworks.computes(place, "pytorch", "pytorch"))
    assert verdicts["pytorch computes"].status == checks.NOT_APPLICABLE
    assert verdicts["pytorch computes on the CPU"].status == status
    assert verdicts["pytorch computes on the CPU"].evidence.endswith((result or {}).get("note", ""))


def test_on_a_live_box_without_a_visible_gpu_computing_is_not_applicable(box):
    (verdict,) = frameworks.computes(box(0), "pytorch", "pytorch")
    assert (verdict.status, verdict.case) == (checks.NOT_APPLICABLE, "pytorch computes")


def test_the_verdict_on_a_missing_environment_names_the_command_to_run(pillar):
    changed = pillar("debian-12", {"frameworks": {"folder": "/nonexistent"}})
    verdict = frameworks.intact(boxes.Place(changed, live=False), "pytorch")
    assert verdict.status == checks.FAILED
    assert "run state.apply frameworks" in verdict.evidence


def test_a_missing_or_a_wrong_manifest_of_the_image_fails(pillar, tmp_path):
    changed = pillar("debian-12", {"validation": {"manifest": str(tmp_path / "m.json")}})
    place = boxes.Place(changed, live=False)
    assert checks.PASSED not in {each.status for each in validation.cases(place)}
    (tmp_path / "m.json").write_text(
        json.dumps({"name": "vault-cube-demo-box", "version": "0.0.9", "target": "debian-12"})
    )
    verdict = by_case(validation.cases(place))["manifest"]
    assert "version is 0.0.9" in verdict.evidence


def test_one_failed_case_fails_the_layer():
    good, bad = checks.verdict("a", True, ""), checks.verdict("b", False, "")
    assert checks.summary("x", [good, bad])["verdict"] == checks.FAILED
    assert checks.summary("x", [good, checks.not_applicable("c", "")])["verdict"] == checks.PASSED
    assert checks.summary("x", [])["verdict"] == checks.NOT_APPLICABLE
    assert "failed" in checks.table(checks.summary("x", [bad]))


def test_every_framework_that_a_target_checks_has_a_program(pillar):
    for target in ("debian-12", "debian-13", "debian-13-nvidia", "ubuntu-24.04"):
        for framework in pillar(target)["frameworks"]["checks"].values():
            assert (frameworks.PROGRAMS / f"{framework}.py").is_file()
            assert Path(frameworks.PROGRAMS).name == "compute"


@pytest.mark.parametrize(
    ("stdout", "status", "evidence"),
    [
        ("curl installed\nlibc6 installed\n", checks.PASSED, "all 2 are"),
        ("curl config-files\nlibc6 installed\n", checks.FAILED, "missing: curl"),
        ("", checks.FAILED, "missing: curl libc6:amd64"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, stdout, status, evidence):
    answer = subprocess.CompletedProcess([], 1 if evidence.startswith("missing") else 0, stdout, "")
    monkeypatch.setattr(base, "command", lambda *_, **__: answer)
    verdict = base.packages(["curl", "libc6:amd64"])
    assert (verdict.status, verdict.evidence, verdict.threshold) == (status, evidence, "base:packages")


def test_a_long_last_line_keeps_its_end_which_has_the_cause():
    path = "/run/containerd/" + "5" * 400
    line = boxes.last_line(f"a warning\ndocker: {path}: fork/exec /usr/bin/nvidia-container-runtime: no such file\n\n")
    assert line.startswith("docker: /run/containerd/5")
    assert line.endswith(" fork/exec /usr/bin/nvidia-container-runtime: no such file")
    assert len(line) == 300
    assert boxes.last_line("one\n two \n") == "two"
    assert boxes.last_line("\n") == ""


HELD = {"held": ["linux-image-generic", "nvidia-utils-580"]}
BOTH = "linux-image-generic hi \nnvidia-utils-580 hi \nlibc6 ii \n"


@pytest.mark.parametrize(
    ("listed", "live", "wrong"),
    [
        (BOTH, False, None),
        (BOTH.replace("580 hi", "580 ii"), False, "nvidia-utils-580 is not held"),
        ("linux-image-generic hi \n", False, "nvidia-utils-580 is not installed"),
        (BOTH.replace("580 hi", "580 hn"), False, "nvidia-utils-580 is not installed"),
        (BOTH.replace("580 hi", "580 rc"), False, "nvidia-utils-580 is not installed"),
        (BOTH + "docker.io hi \n", False, "docker.io is held but not in the pillar"),
        (BOTH + "docker.io hi \n", True, None),
        ("", True, "linux-image-generic is not installed; nvidia-utils-580 is not installed"),
    ],
)
def test_the_pillar_s_held_packages_must_be_installed_and_held(box, listed, live, wrong):
    box.answers["dpkg-query"] = (0, listed)
    verdict = driver.held(HELD, "linux-image-generic", live)
    assert (verdict.status, verdict.evidence) == (checks.FAILED, wrong) if wrong else (checks.PASSED, "2 packages")


def test_the_kernel_is_held_even_if_driver_held_leaves_it_out(box):
    box.answers["dpkg-query"] = (0, "nvidia-utils-580 hi \nlinux-image-generic ii \n")
    assert driver.held({"held": ["nvidia-utils-580"]}, "linux-image-generic", True).evidence == (
        "linux-image-generic is not held"
    )


def cpio(*names, padding=0):
    """A newc archive as an initramfs hook writes it, with a few bytes per file, and zeros at its end."""
    archive = b""
    for name in (*names, "TRAILER!!!"):
        data = b"" if name == "TRAILER!!!" else b"070701 microcode"
        numbers = [0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        for part in (b"070701" + b"".join(b"%08x" % number for number in numbers) + name.encode() + b"\0", data):
            archive += part + bytes(-len(part) % 4)
    return archive + bytes(padding)


AMD, INTEL = "kernel/x86/microcode/AuthenticAMD.bin", "kernel/x86/microcode/GenuineIntel.bin"
BOTH_PACKAGES = ["amd64-microcode", "intel-microcode", "zstd"]


@pytest.mark.parametrize(
    ("packages", "initrd", "status", "evidence"),
    [
        (BOTH_PACKAGES, cpio(AMD, padding=380) + cpio(INTEL) + b"\x28\xb5\x2f\xfd", checks.PASSED, "1 initial"),
        (BOTH_PACKAGES, cpio(INTEL, "kernel", AMD) + cpio("main"), checks.PASSED, "1 initial"),
        (["intel-microcode"], cpio(INTEL), checks.PASSED, "1 initial"),
        # the results of amd64-microcode's hook on an Intel builder, and of intel-microcode's on an AMD builder
        (BOTH_PACKAGES, cpio(INTEL, padding=8), checks.FAILED, f"initrd.img-6 lacks {AMD}"),
        (BOTH_PACKAGES, cpio(AMD), checks.FAILED, f"initrd.img-6 lacks {INTEL}"),
        (BOTH_PACKAGES, b"\x28\xb5\x2f\xfd" + cpio(AMD, INTEL), checks.FAILED, AMD),
        (BOTH_PACKAGES, b"", checks.FAILED, AMD),
        (BOTH_PACKAGES, cpio(AMD, INTEL)[:60], checks.FAILED, AMD),
        (BOTH_PACKAGES, None, checks.FAILED, "0 initial"),
        (["zstd"], b"", checks.NOT_APPLICABLE, "no microcode"),
    ],
)
def test_the_initrd_must_have_microcode_for_any_processor(tmp_path, packages, initrd, status, evidence):
    if initrd is not None:
        (tmp_path / "initrd.img-6").write_bytes(initrd)
    verdict = base.microcode(packages, tmp_path)
    assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict


@pytest.mark.parametrize("state", ["static", "indirect", "alias", "disabled", "enabled-runtime", "generated", ""])
def test_a_unit_that_does_not_start_at_boot_fails(monkeypatch, state):
    monkeypatch.setattr(base, "command", lambda words, _: subprocess.CompletedProcess(words, 0, f"{state}\n", ""))
    verdict = base.units({"units": ["ssh.socket"], "units_off": []})
    assert (verdict.status, verdict.evidence) == (checks.FAILED, f"ssh.socket is {state or 'missing'}")
