"""Checks of layer 3: containers can use the GPUs, all of them or one each."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vault_cube.box import Place, command, last_line, read_json
from vault_cube.verdicts import Verdict, not_applicable, verdict

IMAGE = "vault-cube-check:2"
DAEMON = Path("/etc/docker/daemon.json")
KIND = "nvidia.com/gpu"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# by pillar runtime:provider: the command that writes the CDI specification again
REFRESH = {"nvidia": "systemctl restart nvidia-cdi-refresh", "vault-cube": "systemctl restart vault-cube-cdi"}
LINKER = "/lib64/ld-linux-x86-64.so.2"
# files of the box in the check's container image: a shell, `sleep`, and the C library's parts that the driver needs
PROGRAMS = ("/usr/bin/sh", "/usr/bin/sleep")
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")


def cases(place: Place) -> Iterator[Verdict]:
    """Run all checks of the layer."""
    runtime = place.pillar["runtime"]
    if runtime["provider"] == "none":
        yield not_applicable("containers", "this target gives containers no GPU (pillar runtime:provider)")
        return
    yield configured(runtime, read_json(DAEMON))
    gates = runtime["gates"]
    needs_gpu = ["GPUs in a container", "CUDA's library in a container", "one GPU each, together"]
    if runtime["mode"] == "cdi":
        needs_gpu.insert(0, "CDI specification")
    if not place.live or not place.gpus:
        reason = "the driver reports no GPU: see layer.check driver" if place.live else "needs a running system"
        for case in needs_gpu:
            yield not_applicable(case, reason)
        return
    if runtime["mode"] == "cdi":
        yield specification(cdi_folders(), gates["gpus"], runtime["provider"])
    image()
    ran = command(run_words(runtime, "all", "nvidia-smi -L"), 120)
    seen = ran.stdout.count("UUID:")
    yield verdict(
        "GPUs in a container",
        ran.returncode == 0 and seen == gates["gpus"],
        f"{seen} {last_line(ran.stderr)}".strip(),
        f"{gates['gpus']} (runtime:gates:gpus)",
    )
    yield cuda_library(runtime)
    yield together(runtime, gates["together"])


def configured(runtime: dict[str, Any], daemon: Any) -> Verdict:
    """Check that Docker's configuration has the pillar's values, even if other programs write to it."""
    if not isinstance(daemon, dict):
        return verdict("Docker's configuration", False, f"{DAEMON} is missing or not JSON", "runtime:mode")
    wrong = []
    if runtime["mode"] == "cdi" and daemon.get("features", {}).get("cdi") is not True:
        wrong.append("features.cdi is not true")
    if runtime["mode"] == "runtime" and "nvidia" not in daemon.get("runtimes", {}):
        wrong.append("no runtime is named nvidia")
    if f"native.cgroupdriver={runtime['cgroup_driver']}" not in daemon.get("exec-opts", []):
        wrong.append(f"the cgroup driver is not {runtime['cgroup_driver']}")
    evidence = "; ".join(wrong) or "as in the pillar"
    return verdict("Docker's configuration", not wrong, evidence, "runtime:mode, runtime:cgroup_driver")


def cdi_folders() -> list[Path] | str:
    """Return the folders in which Docker looks for CDI specifications; a message if it does not use CDI."""
    ran = command(["docker", "info", "--format", "{{json .CDISpecDirs}}"], 60)
    if ran.returncode != 0:
        return f"docker info does not list the CDI folders: {last_line(ran.stderr)}"
    # Docker 25 to 27 do not use CDI unless features.cdi is true
    folders = json.loads(ran.stdout or "null")
    return [Path(folder) for folder in folders] if folders else "Docker does not use CDI: features.cdi is not true"


def specification(folders: list[Path] | str, gpus: int, provider: str) -> Verdict:
    """Check that the CDI specification has a device for every GPU, and that each path in it still exists.

    After a driver update an old specification may list files that have been removed.

    folders: result of cdi_folders(). gpus: expected number of GPUs. provider: pillar runtime:provider, which decides
    how the specification is written again.
    """
    case, threshold = "CDI specification", f"all and each of {gpus} (runtime:gates:gpus), no path missing"
    if isinstance(folders, str):
        return verdict(case, False, folders, threshold)
    devices: dict[str, list[str]] = {}
    for file in sorted(file for folder in folders for file in folder.glob("*") if file.suffix in (".json", ".yaml")):
        try:
            spec = yaml.load(file.read_text(), Loader=LOADER)  # noqa: S506 a safe loader, in C
            if spec["kind"] == KIND:
                shared = paths(spec.get("containerEdits"))
                devices |= {str(entry["name"]): shared + paths(entry["containerEdits"]) for entry in spec["devices"]}
        except (OSError, yaml.YAMLError, TypeError, KeyError):
            return verdict(case, False, f"{file} is not a CDI specification: run {REFRESH[provider]}", threshold)
    missing = [name for name in ("all", *map(str, range(gpus))) if name not in devices]
    if missing:
        where = ", ".join(map(str, folders))
        return verdict(case, False, f"no device {KIND}={missing[0]} in {where}: run {REFRESH[provider]}", threshold)
    removed = sorted({path for needed in devices.values() for path in needed if not Path(path).exists()})
    refresh = f"run {REFRESH[provider]}"
    evidence = f"{removed[0]} does not exist: {refresh}" if removed else f"{KIND}: {', '.join(sorted(devices))}"
    return verdict(case, not removed, evidence, threshold)


def paths(edits: dict[str, Any] | None) -> list[str]:
    """List the paths of the box that a specification's edits make available in a container."""
    edits = edits or {}
    nodes = [node.get("hostPath") or node["path"] for node in edits.get("deviceNodes") or []]
    return nodes + [mount["hostPath"] for mount in edits.get("mounts") or []]


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
    subprocess.run(
        ["docker", "import", "-", IMAGE], input=archive.getvalue(), capture_output=True, timeout=60, check=False
    )


def cuda_library(runtime: dict[str, Any]) -> Verdict:
    """Check that the dynamic linker of a container with the GPUs finds libcuda.so.1 and all libraries that it needs."""
    ran = command(run_words(runtime, "all", f"{LINKER} --preload libcuda.so.1 --list /bin/sh"), 120)
    lines = [line.split() for line in ran.stdout.splitlines()]
    paths = [words[2] for words in lines if words[:2] == ["libcuda.so.1", "=>"]]
    return verdict(
        "CUDA's library in a container",
        ran.returncode == 0 and bool(paths) and "not found" not in ran.stdout + ran.stderr,
        paths[0] if paths else last_line(ran.stderr) or "libcuda.so.1 is not found",
    )


def run_words(runtime: dict[str, Any], gpu: str, words: str) -> list[str]:
    """Return the command that runs a shell command in a container. gpu: number of a GPU, or `all`."""
    if runtime["mode"] == "cdi":
        devices = ["--device", f"nvidia.com/gpu={gpu}"]
    else:
        devices = ["--runtime", "nvidia", "--env", f"NVIDIA_VISIBLE_DEVICES={gpu}"]
    return [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        *devices,
        IMAGE,
        "/bin/sh",
        "-c",
        words,
    ]


def together(runtime: dict[str, Any], number: int) -> Verdict:
    """Run containers with one GPU each at the same time, and check that each has one GPU, and each a different one."""
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for words in (run_words(runtime, str(n), "nvidia-smi -L; sleep 5") for n in range(number))
    ]
    outputs = []
    for process in running:
        try:
            outputs.append(process.communicate(timeout=120)[0])
        except subprocess.TimeoutExpired:
            process.kill()
            outputs.append("")
    cards = [line for text in outputs for line in text.splitlines() if "UUID:" in line]
    identities = {line.rpartition("UUID:")[2] for line in cards}
    good = len(cards) == number == len(identities)
    evidence = f"{len(identities)} different GPUs in {number} containers"
    return verdict("one GPU each, together", good, evidence, f"{number} (runtime:gates:together)")
