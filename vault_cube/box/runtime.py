"""Checks of layer 3: containers can use the GPUs, all of them or one each."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from vault_cube import process
from vault_cube.box import Place, read_json
from vault_cube.errors import VaultCubeError
from vault_cube.gpu import cdi_check
from vault_cube.process import command, last_line
from vault_cube.settings.runtime import Runtime
from vault_cube.verdicts import Check, NotApplicable, Verdict, fault, not_applicable, verdict

IMAGE = "vault-cube-check:2"
DAEMON = Path("/etc/docker/daemon.json")
LINKER = "/lib64/ld-linux-x86-64.so.2"
# files of the box in the check's container image: a shell, `sleep`, and the C library's parts that the driver needs
PROGRAMS = ("/usr/bin/sh", "/usr/bin/sleep")
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")


def _runtime(place: Place) -> Runtime:
    """Return the pillar's section. Raises NotApplicable if containers get no GPU on this target."""
    if place.settings.runtime.provider == "none":
        raise NotApplicable("this target gives containers no GPU (pillar runtime:provider)")
    return place.settings.runtime


def _with_gpus(place: Place) -> Runtime:
    """Return the pillar's section. Raises NotApplicable if no GPU answers."""
    runtime = _runtime(place)
    place.require_running_system()
    if not place.gpus:
        raise NotApplicable("the driver reports no GPU: see layer.check driver")
    return runtime


def docker_configuration(place: Place, file: Path = DAEMON) -> Verdict:
    """Check that Docker's configuration has the pillar's values, even if other programs write to it."""
    runtime, daemon = _runtime(place), read_json(file)
    if not isinstance(daemon, dict):
        return fault(f"{file} is missing or not JSON", threshold="runtime:mode")
    wrong = []
    if runtime.mode == "cdi" and daemon.get("features", {}).get("cdi") is not True:
        wrong.append("features.cdi is not true")
    if runtime.mode == "runtime" and "nvidia" not in daemon.get("runtimes", {}):
        wrong.append("no runtime is named nvidia")
    if f"native.cgroupdriver={runtime.cgroup_driver}" not in daemon.get("exec-opts", []):
        wrong.append(f"the cgroup driver is not {runtime.cgroup_driver}")
    return verdict(not wrong, "; ".join(wrong) or "as in the pillar", "runtime:mode, runtime:cgroup_driver")


def cdi_specification(place: Place) -> Verdict:
    """Check the CDI specification in the folders that Docker reads."""
    runtime = _with_gpus(place)
    if runtime.mode != "cdi":
        return not_applicable("containers get GPUs without CDI (pillar runtime:mode)")
    return cdi_check.specification(cdi_folders(), runtime.gates.gpus, runtime.provider)


def cdi_folders() -> list[Path]:
    """Return the folders in which Docker looks for CDI specifications. Raises VaultCubeError if it does not use CDI."""
    ran = command(["docker", "info", "--format", "{{json .CDISpecDirs}}"], 60)
    if ran.returncode != 0:
        raise VaultCubeError(f"docker info does not list the CDI folders: {last_line(ran.stderr)}")
    # Docker 25 to 27 do not use CDI unless features.cdi is true
    folders = json.loads(ran.stdout or "null")
    if not folders:
        raise VaultCubeError("Docker does not use CDI: features.cdi is not true")
    return [Path(folder) for folder in folders]


def gpus_in_a_container(place: Place) -> Verdict:
    """Check that a container with all GPUs sees as many as the pillar says."""
    runtime = _with_gpus(place)
    image()
    ran = command(run_words(runtime, "all", "nvidia-smi -L"), 120)
    seen, wanted = ran.stdout.count("UUID:"), runtime.gates.gpus
    evidence = f"{seen} {last_line(ran.stderr)}".strip()
    return verdict(ran.returncode == 0 and seen == wanted, evidence, f"{wanted} (runtime:gates:gpus)")


def image() -> None:
    """Import a container image with the box's own shell and C library, so that no registry is needed.

    It contains no part of the driver, so a container can use a GPU only through Docker's `--device` or runtime.
    """
    if command(["docker", "image", "inspect", IMAGE], 30).returncode == 0:
        return
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for name in ("bin", "lib", "lib64", "sbin"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for path in (*PROGRAMS, f"/usr{LINKER}", *(f"/usr/lib/x86_64-linux-gnu/{name}" for name in LIBRARIES)):
            if Path(path).exists():
                tar.add(path)
    command(["docker", "import", "-", IMAGE], 60, input=archive.getvalue())


def cuda_library_in_a_container(place: Place) -> Verdict:
    """Check that the dynamic linker of a container with the GPUs finds libcuda.so.1 and all libraries that it needs."""
    runtime = _with_gpus(place)
    image()
    ran = command(run_words(runtime, "all", f"{LINKER} --preload libcuda.so.1 --list /bin/sh"), 120)
    lines = [line.split() for line in ran.stdout.splitlines()]
    paths = [words[2] for words in lines if words[:2] == ["libcuda.so.1", "=>"]]
    good = ran.returncode == 0 and bool(paths) and "not found" not in ran.stdout + ran.stderr
    return verdict(good, paths[0] if paths else last_line(ran.stderr) or "libcuda.so.1 is not found")


def run_words(runtime: Runtime, gpu: str, words: str) -> list[str]:
    """Return the command that runs a shell command in a container. gpu: number of a GPU, or `all`."""
    if runtime.mode == "cdi":
        devices = ["--device", f"nvidia.com/gpu={gpu}"]
    else:
        devices = ["--runtime", "nvidia", "--env", f"NVIDIA_VISIBLE_DEVICES={gpu}"]
    return ["docker", "run", "--rm", "--network", "none", *devices, IMAGE, "/bin/sh", "-c", words]


def one_gpu_each_together(place: Place) -> Verdict:
    """Run containers with one GPU each at the same time, and check that each has one GPU, and each a different one."""
    runtime = _with_gpus(place)
    image()
    number = runtime.gates.together
    running = [
        process.start(words, stdout=process.PIPE, stderr=process.STDOUT, text=True)
        for words in (run_words(runtime, str(n), "nvidia-smi -L; sleep 5") for n in range(number))
    ]
    outputs = []
    for container in running:
        try:
            outputs.append(container.communicate(timeout=120)[0])
        except process.TimeoutExpired:
            container.kill()
            outputs.append("")
    cards = [line for text in outputs for line in text.splitlines() if "UUID:" in line]
    identities = {line.rpartition("UUID:")[2] for line in cards}
    good = len(cards) == number == len(identities)
    evidence = f"{len(identities)} different GPUs in {number} containers"
    return verdict(good, evidence, f"{number} (runtime:gates:together)")


CHECKS: tuple[Check, ...] = (
    docker_configuration,
    cdi_specification,
    gpus_in_a_container,
    cuda_library_in_a_container,
    one_gpu_each_together,
)
