"""Checks of layer 2: kernel modules, held packages, the GPUs, the kernel log and the CUDA compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vault_cube.box import Place, command, last_line
from vault_cube.gpu.health.validate import verdicts
from vault_cube.gpu.nvml.session import Session
from vault_cube.settings.compatibility import ARCHITECTURE
from vault_cube.verdicts import Verdict, not_applicable, verdict

# error lines of the driver; XID is NVIDIA's number for a GPU error (docs.nvidia.com/deploy/xid-errors)
KERNEL_ERROR = re.compile(
    r"NVRM: (Xid|.*(failed|error|mismatch|fallen off the bus|power cables))|nvidia.*(probe .*failed|not supported)",
    re.IGNORECASE,
)

# names of the driver's module; Debian names the modules of its driver flavours differently
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
    """Run all checks of the layer."""
    driver = place.pillar["driver"]
    if driver["provider"] == "none":
        yield not_applicable("driver", "this target has no GPU driver (pillar driver:provider)")
        return
    yield from in_tree(driver)
    yield held(driver, place.pillar["base"]["kernel"]["package"], place.live)
    if place.live:
        with Session(place.pillar["gpu"]["answer_s"]) as session:
            yield from verdicts(session, place.pillar, load=True)
        yield kernel_log()
    else:
        for name in ("GPUs as expected", "kernel log"):
            yield not_applicable(name, "needs a running system")
    yield nvcc(place)


def in_tree(driver: dict[str, Any]) -> Iterator[Verdict]:
    """Check without a running driver that every kernel has modules of the right branch."""
    kernels = sorted(path.name for path in Path("/lib/modules").glob("*") if (path / "modules.dep").is_file())
    for kernel in kernels:
        tried = [command(["modinfo", "-k", kernel, "-F", "version", name], 30) for name in MODULES]
        ran = next((attempt for attempt in tried if attempt.returncode == 0), tried[0])
        version = ran.stdout.strip()
        good = ran.returncode == 0 and version.split(".")[0] == driver["branch"]
        yield verdict(
            f"module for {kernel}", good, version or last_line(ran.stderr), f"branch {driver['branch']} (driver:branch)"
        )
    if not kernels:
        yield verdict("module", False, "there is no kernel in /lib/modules", "one kernel")


def held(driver: dict[str, Any], kernel: str, live: bool) -> Verdict:
    """Check that the pillar's packages are installed and on hold, and that an image has no other package on hold.

    kernel: the name in base:kernel:package. live: whether this is a box, whose owner may hold further packages.
    """
    # "hi" is hold, installed (dpkg-query(1)); apt-mark showhold would also list packages that are not installed
    ran = command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n"], 30)
    states = dict(line.split()[:2] for line in ran.stdout.splitlines() if len(line.split()) > 1)
    wanted = {*driver["held"], kernel}
    wrong = [f"{name} is {_hold_state(states.get(name))}" for name in sorted(wanted) if states.get(name) != "hi"]
    if not live:
        others = sorted(name for name, state in states.items() if state.startswith("h") and name not in wanted)
        wrong += [f"{name} is held but not in the pillar" for name in others]
    evidence = "; ".join(wrong) or f"{len(wanted)} packages"
    return verdict("held together", not wrong, evidence, "driver:held, base:kernel:package")


def _hold_state(abbreviation: str | None) -> str:
    if abbreviation is None or abbreviation[1:2] != "i":
        return "not installed"
    return "not held"


def kernel_log() -> Verdict:
    """Check that the kernel log of this boot has no error of the driver."""
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
    """Compile a program with the CUDA compiler of an environment, or of PATH, and run it on a GPU.

    Without a GPU, compile it for the target's GPUs (driver:generation). A broken compiler then fails, and a working one
    is not applicable, because the program did not run.
    """
    threshold = "compiles and runs"
    folder = Path(place.pillar["frameworks"]["folder"])
    compilers = sorted(folder.glob("*/lib/python3*/site-packages/nvidia/*/bin/nvcc"))
    compiler = compilers[0] if compilers else Path(shutil.which("nvcc") or "")
    if not compiler.name:
        return not_applicable("nvcc", "no CUDA compiler is installed (an environment with nvidia-cuda-nvcc brings one)")
    generation = place.pillar["driver"]["generation"]
    gpus = place.gpus if place.live else 0
    with tempfile.TemporaryDirectory() as work:
        source, program = Path(work) / "add.cu", Path(work) / "add"
        source.write_text(PROGRAM)
        # by default nvcc emits machine code for sm_75 and PTX for all newer GPUs
        architecture = "native" if gpus else ARCHITECTURE[generation]
        # nvcc's own settings name lib64, but the wheels have lib
        libraries = compiler.resolve().parents[1] / "lib"
        words = [str(compiler), f"-arch={architecture}", "-L", str(libraries), "-o", str(program), str(source)]
        compiled = command(words, 300)
        if compiled.returncode:
            # the last line is gcc's "compilation terminated", without the cause
            return verdict("nvcc", False, first_error(compiled.stderr), threshold)
        if not gpus:
            return not_applicable("nvcc", f"compiles for {architecture} ({generation}); no GPU runs the program")
        ran = command([str(program)], 60)
        good = ran.returncode == 0 and ran.stdout == "496"
        return verdict("nvcc", good, f"sum {ran.stdout}" if good else failure(ran), threshold)


def first_error(stderr: str) -> str:
    """Return the first line of a compiler's output that contains "error", or else the last line."""
    return next((line.strip()[:300] for line in stderr.splitlines() if "error" in line.lower()), last_line(stderr))


def failure(ran: subprocess.CompletedProcess[str]) -> str:
    """Describe how the compiled program failed."""
    step = {2: "no memory on the GPU, or no driver", 3: "the GPU did not run the kernel", 4: "wrong sum"}
    return step.get(ran.returncode) or last_line(ran.stderr) or f"exit code {ran.returncode}"
