"""Gate of layer 2: the GPUs are there, whole, cool, and quiet in the kernel's log."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vault_cube.checks import Place, Verdict, command, last_line, not_applicable, verdict
from vault_cube.gpu.session import Session
from vault_cube.gpu.validate import verdicts

# the driver's own error lines; Xid is NVIDIA's code for a GPU error (docs.nvidia.com/deploy/xid-errors)
KERNEL_ERROR = re.compile(
    r"NVRM: (Xid|.*(failed|error|mismatch|fallen off the bus|power cables))|nvidia.*(probe .*failed|not supported)",
    re.IGNORECASE,
)

# Debian keeps several drivers apart by their modules' names
MODULES = ("nvidia", "nvidia-current-open", "nvidia-current")

PROGRAM = """
#include <cstdio>
__global__ void add(int *x) { atomicAdd(x, threadIdx.x); }
int main() {
    int *x, out = 0;
    if (cudaMalloc(&x, sizeof out) || cudaMemcpy(x, &out, sizeof out, cudaMemcpyHostToDevice)) return 2;
    add<<<1, 32>>>(x);
    if (cudaMemcpy(&out, x, sizeof out, cudaMemcpyDeviceToHost)) return 3;
    std::printf("%d", out);
    return out == 496 ? 0 : 4;
}
"""


def cases(place: Place) -> Iterator[Verdict]:
    """All cases of the layer."""
    driver = place.pillar["driver"]
    if driver["provider"] == "none":
        yield not_applicable("driver", "this target has no GPU driver (pillar driver:provider)")
        return
    yield from in_tree(driver)
    if not place.live:
        for name in ("GPUs as expected", "kernel log", "nvcc"):
            yield not_applicable(name, "needs a running system")
        return
    with Session(place.pillar["gpu"]["answer_s"]) as session:
        yield from verdicts(session, place.pillar, load=True)
    yield kernel_log()
    yield nvcc(place)


def in_tree(driver: dict[str, Any]) -> Iterator[Verdict]:
    """What can be seen without running anything: modules for the kernel, one version, held packages."""
    kernels = sorted(path.name for path in Path("/lib/modules").glob("*") if (path / "modules.dep").is_file())
    for kernel in kernels:
        tried = [command(["modinfo", "-k", kernel, "-F", "version", name], 30) for name in MODULES]
        ran = next((one for one in tried if one.returncode == 0), tried[0])
        version = ran.stdout.strip()
        good = ran.returncode == 0 and version.split(".")[0] == driver["branch"]
        yield verdict(
            f"module for {kernel}", good, version or last_line(ran.stderr), f"branch {driver['branch']} (driver:branch)"
        )
    if not kernels:
        yield verdict("module", False, "there is no kernel in /lib/modules", "one kernel")
    if driver["held"]:
        held = set(command(["apt-mark", "showhold"], 30).stdout.split())
        loose = sorted(set(driver["held"]) - held)
        yield verdict(
            "held together",
            not loose,
            f"not held: {', '.join(loose)}" if loose else f"{len(held)} packages",
            "driver:held",
        )


def kernel_log() -> Verdict:
    ran = command(["journalctl", "--dmesg", "--boot", "--no-pager", "--output=cat"], 60)
    if ran.returncode != 0:
        return verdict("kernel log", False, last_line(ran.stderr))
    errors = [line for line in ran.stdout.splitlines() if KERNEL_ERROR.search(line)]
    return verdict(
        "kernel log",
        not errors,
        f"{len(errors)} error(s): {errors[0][:200]}" if errors else "no driver error",
        "0 errors",
    )


def nvcc(place: Place) -> Verdict:
    """The CUDA compiler makes a program that runs; it comes with an environment, or lies on PATH."""
    folder = Path(place.pillar.get("frameworks", {}).get("folder", "/"))
    found = sorted(folder.glob("*/lib/python3*/site-packages/nvidia/*/bin/nvcc"))
    compiler = str(found[0]) if found else "nvcc"
    with tempfile.TemporaryDirectory() as work:
        source, program = Path(work) / "add.cu", Path(work) / "add"
        source.write_text(PROGRAM)
        made = command([compiler, "-o", str(program), str(source)], 300)
        if made.returncode == 127:
            return not_applicable(
                "nvcc", "no CUDA compiler is installed (an environment with nvidia-cuda-nvcc brings one)"
            )
        if made.returncode:
            return verdict("nvcc", False, last_line(made.stderr), "compiles and runs")
        ran = command([str(program)], 60)
        return verdict(
            "nvcc",
            ran.returncode == 0 and ran.stdout == "496",
            f"sum {ran.stdout or last_line(ran.stderr)}",
            "compiles and runs",
        )
