"""layer.check: verdicts against the pillar's thresholds, on machines whose answers each test sets."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from vault_cube import process
from vault_cube import verdicts as checks
from vault_cube.box import Place, base, driver, frameworks, runtime, validation
from vault_cube.errors import VaultCubeError
from vault_cube.gpu import cdi_check
from vault_cube.settings import check
from vault_cube.settings.strict import Section


class Box(Place):
    """A box with a given number of GPUs."""

    cards = 0

    @property
    def gpus(self):
        return self.cards


def replaced(model, changes):
    """A model of the settings with other values, valid together or not."""
    return model.model_copy(
        update={
            name: replaced(section, value) if isinstance(section := getattr(model, name), Section) else value
            for name, value in changes.items()
        }
    )


@pytest.fixture
def place(pillar):
    """place(target, {section: {key: value}}, live, cards) is a box of a target with changed settings."""

    def make(target="ubuntu-24.04", changes=None, live=False, cards=0):
        box = Box(replaced(check(pillar(target)), changes or {}), live)
        object.__setattr__(box, "cards", cards)
        return box

    return make


@pytest.fixture
def answers(monkeypatch):
    """answers[program] = (status, output) is the answer of a program; others succeed and print nothing."""
    programs = {}

    def command(words, seconds, **options):
        status, output = programs.get(words[0], (0, ""))
        return process.Result(status, output, output)

    for module in (base, driver, runtime, frameworks):
        monkeypatch.setattr(module, "command", command)
    return programs


def with_nvcc(folder):
    """Create an empty nvcc where CUDA 13's wheel has it. Returns its path."""
    compiler = folder / "vllm/lib/python3.12/site-packages/nvidia/cu13/bin/nvcc"
    compiler.parent.mkdir(parents=True)
    compiler.touch()
    return compiler


def by_check(module, place):
    """Run a layer's checks."""
    return {verdict.check: verdict for verdict in checks.run(module.CHECKS, place)}


def the_only(check, *context):
    """Run one check that gives one verdict."""
    (verdict,) = checks.run([check], *context)
    return verdict


# thresholds 3 and 4 of the box's acceptance, and the check of each (gpu.validate checks threshold 2)
THRESHOLDS = [
    (driver, "kernel log", "0 errors"),
    (driver, "nvcc", "compiles and runs"),
    (driver, "packages are held", "driver:held"),
    (runtime, "gpus in a container", "4 (runtime:gates:gpus)"),
    (runtime, "one gpu each together", "2 (runtime:gates:together)"),
    (frameworks, "pytorch computes", "4 GPU(s) (frameworks:gates:gpus)"),
    (frameworks, "tensorflow computes", "4 GPU(s) (frameworks:gates:gpus)"),
    (frameworks, "vllm computes", "4 GPU(s) (frameworks:gates:gpus)"),
]


def test_every_threshold_has_a_check(place, answers, tmp_path, monkeypatch):
    with_nvcc(tmp_path)
    monkeypatch.setattr(driver, "validate", lambda *_, **__: checks.Report("GPUs", []))
    monkeypatch.setattr(runtime, "image", lambda: None)
    monkeypatch.setattr(runtime, "run_words", lambda _, gpu, words: ["echo", f"GPU 0: (UUID: GPU-{gpu})"])
    answers["docker"] = (0, "null")
    box = place(changes={"frameworks": {"folder": str(tmp_path)}}, live=True, cards=4)
    verdicts = {module: by_check(module, box) for module in (driver, runtime, frameworks)}
    for module, name, threshold in THRESHOLDS:
        assert verdicts[module][name].status != checks.NOT_APPLICABLE
        assert verdicts[module][name].threshold.startswith(threshold)
    assert verdicts[runtime]["one gpu each together"].status == checks.OK


def test_an_xid_in_the_kernel_log_is_a_fault(place, answers):
    answers["journalctl"] = (0, "usb 1-1: new device\nNVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus\n")
    assert the_only(driver.kernel_log, place(live=True)).status == checks.FAULT


def test_in_a_tree_checks_of_a_running_system_are_not_applicable(place, answers):
    verdicts = by_check(driver, place())
    for name in ("gpus as expected", "kernel log", "nvcc"):
        assert verdicts[name].status == checks.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("cards", "live", "compiled", "ran", "status", "evidence"),
    [
        (4, True, (0, ""), (0, "496"), checks.OK, "sum 496"),
        (4, True, (0, ""), (3, ""), checks.FAULT, "the GPU did not run the kernel"),
        (4, True, (0, ""), (0, "495"), checks.FAULT, "exit code 0"),
        # without a GPU a broken compiler still fails, and a working one proves nothing about GPUs
        (0, True, (0, ""), None, checks.NOT_APPLICABLE, "compiles for sm_120 (blackwell)"),
        (0, False, (0, ""), None, checks.NOT_APPLICABLE, "compiles for sm_120 (blackwell)"),
        (0, False, (1, "nvcc fatal: error: no g++\ncompilation terminated."), None, checks.FAULT, "error: no g++"),
        (4, True, (1, "a.h:3: #error incompatible headers\n1 error detected"), None, checks.FAULT, "incompatible"),
        (4, True, (1, "gcc: No such file or directory"), None, checks.FAULT, "gcc: No such file"),
    ],
)
def test_nvcc_compiles_and_runs_a_program(place, tmp_path, monkeypatch, cards, live, compiled, ran, status, evidence):
    box = place(changes={"frameworks": {"folder": str(tmp_path)}}, live=live, cards=cards)
    compiler = with_nvcc(tmp_path)
    words = []

    def command(called, seconds, **options):
        words.append(called)
        code, text = compiled if called[0] == str(compiler) else ran
        return process.Result(code, text, text if code else "")

    monkeypatch.setattr(driver, "command", command)
    verdict = the_only(driver.nvcc, box)
    assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict
    # machine code for the installed GPU: the driver may be too old for this compiler's PTX
    assert words[0][1] == ("-arch=native" if cards else "-arch=sm_120")
    assert words[0][2:4] == ["-L", str(compiler.parents[1] / "lib")]
    assert len(words) == (2 if ran else 1)


def test_a_missing_nvcc_is_not_applicable(place, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    box = place(changes={"frameworks": {"folder": str(tmp_path)}}, live=True, cards=4)
    verdict = the_only(driver.nvcc, box)
    assert (verdict.status, "no CUDA compiler" in verdict.evidence) == (checks.NOT_APPLICABLE, True)


def test_on_a_target_without_gpus_no_gpu_check_passes(place):
    for module in (driver, runtime):
        for live in (False, True):
            verdicts = by_check(module, place("debian-12", live=live))
            assert {verdict.status for verdict in verdicts.values()} == {checks.NOT_APPLICABLE}
            assert len(verdicts) == len(module.CHECKS)


@pytest.mark.parametrize(
    ("daemon", "status"),
    [
        ({"features": {"cdi": True}, "exec-opts": ["native.cgroupdriver=systemd"], "ip": "127.0.0.1"}, checks.OK),
        ({"features": {"cdi": True}}, checks.FAULT),
        ({"exec-opts": ["native.cgroupdriver=systemd"]}, checks.FAULT),
        (None, checks.FAULT),
    ],
)
def test_docker_s_configuration_must_match_the_pillar(place, tmp_path, daemon, status):
    (tmp_path / "daemon.json").write_text(json.dumps(daemon))
    assert runtime.docker_configuration(place(), tmp_path / "daemon.json").status == status


@pytest.mark.parametrize("box", [{"live": True}, {"cards": 4}], ids=["no card", "a tree"])
@pytest.mark.parametrize("target", ["ubuntu-24.04", "debian-13-nvidia"])
def test_without_a_gpu_checks_in_containers_are_not_applicable(place, answers, box, target):
    verdicts = by_check(runtime, place(target, **box))
    del verdicts["docker configuration"]
    assert {"cdi specification", "gpus in a container", "one gpu each together"} < set(verdicts)
    assert {verdict.status for verdict in verdicts.values()} == {checks.NOT_APPLICABLE}


def test_mode_runtime_needs_a_runtime_entry_in_dockers_configuration(place, tmp_path):
    box = place(changes={"runtime": {"mode": "runtime", "cgroup_driver": "cgroupfs"}})
    file = tmp_path / "daemon.json"
    daemon = {
        "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    }
    file.write_text(json.dumps(daemon))
    assert runtime.docker_configuration(box, file).status == checks.OK
    file.write_text(json.dumps({**daemon, "runtimes": {}}))
    assert runtime.docker_configuration(box, file).status == checks.FAULT
    assert "--runtime" in runtime.run_words(box.settings.runtime, "0", "true")


def cdi(library, names=("all", "0", "1")):
    node = {"path": "/dev/null"}
    devices = [{"name": name, "containerEdits": {"deviceNodes": [node]}} for name in names]
    shared = {"mounts": [{"hostPath": str(library), "containerPath": "/x"}]}
    return {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices, "containerEdits": shared}


@pytest.mark.parametrize(
    ("spec", "status", "evidence"),
    [
        (cdi, checks.OK, "nvidia.com/gpu: 0, 1, all"),
        (lambda library: cdi(library, ["all", "0"]), checks.FAULT, "no device nvidia.com/gpu=1"),
        (lambda library: {**cdi(library), "kind": "example.com/gpu"}, checks.FAULT, "no device nvidia.com/gpu=all"),
        (lambda library: cdi(f"{library}.550"), checks.FAULT, "libcuda.so.550 does not exist"),
        (lambda library: {"devices": None}, checks.FAULT, "not a CDI specification"),
        (lambda library: [], checks.FAULT, "not a CDI specification"),
        (None, checks.FAULT, "no device nvidia.com/gpu=all"),
    ],
)
def test_a_cdi_specification_needs_all_devices_and_existing_paths(tmp_path, spec, status, evidence):
    (tmp_path / "libcuda.so").touch()
    (tmp_path / "cdi").mkdir()
    if spec:
        (tmp_path / "cdi/nvidia.yaml").write_text(json.dumps(spec(tmp_path / "libcuda.so")))
    for provider, unit in (("nvidia", "nvidia-cdi-refresh"), ("vault-cube", "vault-cube-cdi")):
        verdict = cdi_check.specification([tmp_path / "cdi", tmp_path / "nowhere"], 2, provider)
        assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict
        assert (unit in verdict.todo) is (status == checks.FAULT)


def test_dockers_cdi_folders_are_read(answers):
    answers["docker"] = (0, '["/etc/cdi","/var/run/cdi"]')
    assert runtime.cdi_folders() == [Path("/etc/cdi"), Path("/var/run/cdi")]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((0, "null"), "Docker does not use CDI: features.cdi is not true"),
        ((0, ""), "Docker does not use CDI: features.cdi is not true"),
        ((1, "can't evaluate field CDISpecDirs"), "docker info does not list the CDI folders: can't evaluate field"),
    ],
)
def test_a_docker_without_cdi_is_a_fault(place, answers, answer, message):
    answers["docker"] = answer
    with pytest.raises(VaultCubeError, match=message):
        runtime.cdi_folders()
    verdict = the_only(runtime.cdi_specification, place(live=True, cards=4))
    assert (verdict.status, message in verdict.evidence) == (checks.FAULT, True)


@pytest.mark.parametrize(
    ("answer", "status", "evidence"),
    [
        ((0, "\tlibcuda.so.1 => /lib/libcuda.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)"), checks.OK, "/lib/"),
        ((0, "\tlibcuda.so.1 => /lib/libcuda.so.1 (0x1)\n\tlibm.so.6 => not found"), checks.FAULT, "/lib/"),
        ((0, "ERROR: ld.so: object 'libcuda.so.1' from --preload cannot be preloaded"), checks.FAULT, "cannot be"),
        ((0, ""), checks.FAULT, "not found"),
        ((125, "docker: unresolvable CDI devices nvidia.com/gpu=all"), checks.FAULT, "unresolvable"),
    ],
    ids=["loads", "a library is missing", "libcuda is missing", "no output", "no such device"],
)
def test_cuda_s_library_loads_in_a_container(place, answers, monkeypatch, answer, status, evidence):
    monkeypatch.setattr(runtime, "image", lambda: None)
    answers["docker"] = answer
    verdict = runtime.cuda_library_in_a_container(place(live=True, cards=4))
    assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict


def test_the_check_s_image_has_a_shell_and_no_part_of_a_driver(monkeypatch):
    archives = []

    def command(_words, _seconds, *, input=None):
        archives.append(input)
        return process.Result(1, "", "no such image")

    monkeypatch.setattr(runtime, "command", command)
    runtime.image()
    with tarfile.open(fileobj=io.BytesIO(archives[1])) as tar:
        names = set(tar.getnames())
        assert {"bin", "lib64", "usr/bin/sh", "usr/lib64/ld-linux-x86-64.so.2"} <= names
        assert all(entry.isfile() for entry in tar if entry.name.startswith("usr/"))
    assert not [name for name in names if "nvidia" in name or "cuda" in name]


PYTORCH = {"pytorch": "pytorch"}


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"version": "2.13.0", "gpus": 4, "right": 4}, checks.OK),
        ({"version": "2.13.0", "gpus": 3, "right": 3}, checks.FAULT),
        ({"version": "2.13.0", "gpus": 4, "right": 3}, checks.FAULT),
        (None, checks.FAULT),
    ],
)
def test_a_framework_computes_on_every_gpu(place, answers, result, status):
    box = place(changes={"frameworks": {"checks": PYTORCH}}, live=True, cards=4)
    answers[f"{box.settings.frameworks.folder}/pytorch/bin/python"] = (
        (0, json.dumps(result)) if result else (1, "ImportError: no torch")
    )
    assert the_only(frameworks.frameworks_compute, box).status == status


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"version": "2.13.0", "gpus": 0, "right": 1}, checks.OK),
        ({"version": "2.13.0", "gpus": 0, "right": 0}, checks.FAULT),
        ({"version": "2.13.0", "gpus": 4, "right": 4}, checks.FAULT),
        ({"version": "0.32.0", "gpus": 0, "right": 1, "note": "no text without a GPU"}, checks.OK),
        (None, checks.FAULT),
    ],
)
def test_in_a_tree_a_framework_computes_on_the_cpu_only(place, answers, result, status):
    box = place(changes={"frameworks": {"checks": PYTORCH}})
    answers[f"{box.settings.frameworks.folder}/pytorch/bin/python"] = (
        (0, json.dumps(result)) if result else (1, "ImportError: libcuda.so.1: no such file")
    )
    verdicts = {verdict.check: verdict for verdict in frameworks.frameworks_compute(box)}
    assert verdicts["pytorch computes"].status == checks.NOT_APPLICABLE
    assert verdicts["pytorch computes on the CPU"].status == status
    assert verdicts["pytorch computes on the CPU"].evidence.endswith((result or {}).get("note", ""))


def test_on_a_live_box_without_a_visible_gpu_computing_is_not_applicable(place):
    verdict = the_only(frameworks.frameworks_compute, place(changes={"frameworks": {"checks": PYTORCH}}, live=True))
    assert (verdict.status, verdict.check) == (checks.NOT_APPLICABLE, "pytorch computes")


def test_the_verdict_on_a_missing_environment_names_the_command_to_run(place):
    verdict = next(frameworks.files_are_intact(place("debian-12", {"frameworks": {"folder": "/nonexistent"}})))
    assert verdict.status == checks.FAULT
    assert "state.apply frameworks" in verdict.todo


def test_a_missing_or_a_wrong_manifest_of_the_image_is_a_fault(place, tmp_path):
    box = place("debian-12", {"validation": {"manifest": str(tmp_path / "m.json")}})
    assert the_only(validation.image_manifest, box).status == checks.FAULT
    (tmp_path / "m.json").write_text(
        json.dumps({"name": "vault-cube-demo-box", "version": "0.0.9", "target": "debian-12"})
    )
    assert "version is 0.0.9" in the_only(validation.image_manifest, box).evidence


def test_every_framework_that_a_target_checks_has_a_program(pillar):
    for target in ("debian-12", "debian-13", "debian-13-nvidia", "ubuntu-24.04"):
        for framework in pillar(target)["frameworks"]["checks"].values():
            assert (frameworks.PROGRAMS / f"{framework}.py").is_file()
            assert Path(frameworks.PROGRAMS).name == "compute"


@pytest.mark.parametrize(
    ("stdout", "status", "evidence"),
    [
        ("curl installed\nlibc6 installed\n", checks.OK, "all 2 are"),
        ("curl config-files\nlibc6 installed\n", checks.FAULT, "missing: curl"),
        ("", checks.FAULT, "missing: curl libc6:amd64"),
    ],
)
def test_a_missing_package_is_named(place, answers, stdout, status, evidence):
    answers["dpkg-query"] = (1 if evidence.startswith("missing") else 0, stdout)
    verdict = base.packages_are_installed(place(changes={"base": {"packages": ["curl", "libc6:amd64"]}}))
    assert (verdict.status, verdict.evidence, verdict.threshold) == (status, evidence, "base:packages")


def test_a_long_last_line_keeps_its_end_which_has_the_cause():
    path = "/run/containerd/" + "5" * 400
    line = process.last_line(
        f"a warning\ndocker: {path}: fork/exec /usr/bin/nvidia-container-runtime: no such file\n\n"
    )
    assert line.startswith("docker: /run/containerd/5")
    assert line.endswith(" fork/exec /usr/bin/nvidia-container-runtime: no such file")
    assert len(line) == 300
    assert process.last_line("one\n two \n") == "two"
    assert process.last_line("\n") == ""


def held_packages(place, live, held=("linux-image-generic", "nvidia-utils-580")):
    kernel = {"kernel": {"package": "linux-image-generic"}}
    return the_only(
        driver.packages_are_held, place(changes={"driver": {"held": list(held)}, "base": kernel}, live=live)
    )


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
def test_the_pillar_s_held_packages_must_be_installed_and_held(place, answers, listed, live, wrong):
    answers["dpkg-query"] = (0, listed)
    verdict = held_packages(place, live)
    assert (verdict.status, verdict.evidence) == ((checks.FAULT, wrong) if wrong else (checks.OK, "2 packages"))


def test_the_kernel_is_held_even_if_driver_held_leaves_it_out(place, answers):
    answers["dpkg-query"] = (0, "nvidia-utils-580 hi \nlinux-image-generic ii \n")
    assert held_packages(place, True, ["nvidia-utils-580"]).evidence == "linux-image-generic is not held"


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
        (BOTH_PACKAGES, cpio(AMD, padding=380) + cpio(INTEL) + b"\x28\xb5\x2f\xfd", checks.OK, "1 initial"),
        (BOTH_PACKAGES, cpio(INTEL, "kernel", AMD) + cpio("main"), checks.OK, "1 initial"),
        (["intel-microcode"], cpio(INTEL), checks.OK, "1 initial"),
        # the results of amd64-microcode's hook on an Intel builder, and of intel-microcode's on an AMD builder
        (BOTH_PACKAGES, cpio(INTEL, padding=8), checks.FAULT, f"initrd.img-6 lacks {AMD}"),
        (BOTH_PACKAGES, cpio(AMD), checks.FAULT, f"initrd.img-6 lacks {INTEL}"),
        (BOTH_PACKAGES, b"\x28\xb5\x2f\xfd" + cpio(AMD, INTEL), checks.FAULT, AMD),
        (BOTH_PACKAGES, b"", checks.FAULT, AMD),
        (BOTH_PACKAGES, cpio(AMD, INTEL)[:60], checks.FAULT, AMD),
        (BOTH_PACKAGES, None, checks.FAULT, "0 initial"),
        (["zstd"], b"", checks.NOT_APPLICABLE, "no microcode"),
    ],
)
def test_the_initrd_must_have_microcode_for_any_processor(place, tmp_path, packages, initrd, status, evidence):
    if initrd is not None:
        (tmp_path / "initrd.img-6").write_bytes(initrd)
    verdict = base.microcode_for_any_processor(place(changes={"base": {"packages": packages}}), tmp_path)
    assert (verdict.status, evidence in verdict.evidence) == (status, True), verdict


@pytest.mark.parametrize("state", ["static", "indirect", "alias", "disabled", "enabled-runtime", "generated", ""])
def test_a_unit_that_does_not_start_at_boot_is_a_fault(place, answers, state):
    answers["systemctl"] = (0, f"{state}\n")
    verdict = base.units_start_at_boot(place(changes={"base": {"units": ["ssh.socket"], "units_off": []}}))
    assert (verdict.status, verdict.evidence) == (checks.FAULT, f"ssh.socket is {state or 'missing'}")


JAIL = """Status for the jail: sshd
|- Filter
|  |- Currently failed:\t2
|  |- Total failed:\t9
|  `- Journal matches:\t_SYSTEMD_UNIT=ssh.service + _COMM=sshd
`- Actions
   |- Currently banned:\t1
   |- Total banned:\t3
   `- Banned IP list:\t203.0.113.7
"""
COUNTS = "Currently failed: 2, Total failed: 9, Currently banned: 1, Total banned: 3"


@pytest.mark.parametrize(
    ("numbers", "jail", "status", "evidence"),
    [
        ((0, "5\n"), (0, JAIL), "ok", f"reads the journal; {COUNTS}"),
        ((0, "3\n"), (0, JAIL), "fault", f"reads the journal; {COUNTS}"),
        ((0, "5\n"), (0, JAIL.replace("Journal matches", "File list")), "fault",
         f"does not read the journal; {COUNTS}"),
        ((255, ""), (255, ""), "fault", "Failed to access socket path"),
    ],
)  # fmt: skip
def test_the_ssh_jail_is_shown_by_its_counts(place, monkeypatch, numbers, jail, status, evidence):
    def command(words, _seconds):
        code, output = numbers if words[1] == "get" else jail
        return process.Result(code, output, "" if output else "Failed to access socket path: is fail2ban running?\n")

    monkeypatch.setattr(base, "command", command)
    verdict = base.the_ssh_jail(place(live=True))
    assert verdict.status == status
    assert verdict.evidence.startswith(evidence)


@pytest.mark.parametrize(
    ("policy", "rules", "status", "evidence"),
    [
        ("deny (incoming), allow (outgoing), deny (routed)", "22/tcp ALLOW IN Anywhere", "ok", "ports [22]; "),
        ("allow (incoming), allow (outgoing), deny (routed)", "22/tcp ALLOW IN Anywhere", "fault", "ports [22]; "),
        ("deny (incoming), allow (outgoing), deny (routed)", "", "fault", "ports []; "),
        ("deny (incoming), allow (outgoing), deny (routed)", "22/tcp ALLOW IN Anywhere\n80/tcp ALLOW IN Anywhere", "ok",
         "ports [22], opened by the owner: [80]; "),
    ],
)  # fmt: skip
def test_the_firewall_is_shown_with_its_policy(place, answers, policy, rules, status, evidence):
    printed = f"Status: active\nLogging: on (low)\nDefault: {policy}\nNew profiles: skip\n\nTo Action From\n{rules}\n"
    answers["ufw"] = (0, printed)
    verdict = base.the_firewall_in_force(place(live=True))
    assert (verdict.status, verdict.evidence) == (status, f"{evidence}Status: active; Default: {policy}")


def test_a_firewall_that_is_off_is_shown_as_such(place, answers):
    answers["ufw"] = (0, "Status: inactive\n")
    verdict = base.the_firewall_in_force(place(live=True))
    assert (verdict.status, verdict.evidence) == ("fault", "ports []; Status: inactive")
