"""Checks of layer 2: kernel modules, held packages, the GPUs, the kernel log and the CUDA compiler."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vault_cube.box import Place
from vault_cube.gpu.health.validate import validate
from vault_cube.gpu.nvml.session import Session
from vault_cube.process import Result, command, last_line
from vault_cube.settings.compatibility import ARCHITECTURE
from vault_cube.settings.driver import Driver
from vault_cube.verdicts import Check, NotApplicable, Verdict, fault, not_applicable, verdict

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


def _driver(place: Place) -> Driver:
    """Return the pillar's section. Raises NotApplicable if the target has no driver."""
    if place.settings.driver.provider == "none":
        raise NotApplicable("this target has no GPU driver (pillar driver:provider)")
    return place.settings.driver


def modules_of_the_driver(place: Place, folder: Path = Path("/lib/modules")) -> Iterator[Verdict]:
    """Check without a running driver that every kernel has modules of the right branch."""
    driver = _driver(place)
    threshold = f"branch {driver.branch} (driver:branch)"
    kernels = sorted(path.name for path in folder.glob("*") if (path / "modules.dep").is_file())
    for kernel in kernels:
        tried = [command(["modinfo", "-k", kernel, "-F", "version", name], 30) for name in MODULES]
        ran = next((attempt for attempt in tried if attempt.returncode == 0), tried[0])
        version = ran.stdout.strip()
        good = ran.returncode == 0 and version.split(".")[0] == driver.branch
        yield verdict(good, version or last_line(ran.stderr), threshold, check=f"module for {kernel}")
    if not kernels:
        yield fault(f"there is no kernel in {folder}", threshold="one kernel")


def packages_are_held(place: Place) -> Verdict:
    """Check that the pillar's packages are installed and on hold, and that an image has no other package on hold.

    The owner of a box may hold further packages.
    """
    wanted = {*_driver(place).held, place.settings.base.kernel.package}
    # "hi" is hold, installed (dpkg-query(1)); apt-mark showhold would also list packages that are not installed
    ran = command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n"], 30)
    states = dict(line.split()[:2] for line in ran.stdout.splitlines() if len(line.split()) > 1)
    wrong = [f"{name} is {_hold_state(states.get(name))}" for name in sorted(wanted) if states.get(name) != "hi"]
    if not place.live:
        others = sorted(name for name, state in states.items() if state.startswith("h") and name not in wanted)
        wrong += [f"{name} is held but not in the pillar" for name in others]
    evidence = "; ".join(wrong) or f"{len(wanted)} packages"
    return verdict(not wrong, evidence, "driver:held, base:kernel:package")


def _hold_state(abbreviation: str | None) -> str:
    if abbreviation is None or abbreviation[1:2] != "i":
        return "not installed"
    return "not held"


def gpus_as_expected(place: Place) -> Iterator[Verdict]:
    """Compare the GPUs with the pillar, as `gpu.validate` does."""
    _driver(place)
    place.require_running_system()
    with Session(place.settings.gpu.answer_s) as session:
        yield from validate(session, place.settings, load=True).verdicts


def kernel_log(place: Place) -> Verdict:
    """Check that the kernel log of this boot has no error of the driver."""
    _driver(place)
    place.require_running_system()
    ran = command(["journalctl", "--dmesg", "--boot", "--no-pager", "--output=cat"], 60)
    if ran.returncode != 0:
        return fault(last_line(ran.stderr))
    errors = [line for line in ran.stdout.splitlines() if KERNEL_ERROR.search(line)]
    evidence = f"{len(errors)} error(s): {errors[0][:200]}" if errors else "no driver error"
    return verdict(not errors, evidence, "0 errors")


def nvcc(place: Place) -> Verdict:
    """Compile a program with the CUDA compiler of an environment, or of PATH, and run it on a GPU.

    Without a GPU, compile it for the target's GPUs (driver:generation). A broken compiler then fails, and a working one
    is not applicable, because the program did not run.
    """
    generation = _driver(place).generation or ""
    threshold = "compiles and runs"
    folder = Path(place.settings.frameworks.folder)
    compilers = sorted(folder.glob("*/lib/python3*/site-packages/nvidia/*/bin/nvcc"))
    compiler = compilers[0] if compilers else Path(shutil.which("nvcc") or "")
    if not compiler.name:
        return not_applicable("no CUDA compiler is installed (an environment with nvidia-cuda-nvcc brings one)")
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
            return fault(first_error(compiled.stderr), threshold=threshold)
        if not gpus:
            return not_applicable(f"compiles for {architecture} ({generation}); no GPU runs the program")
        ran = command([str(program)], 60)
        good = ran.returncode == 0 and ran.stdout == "496"
        return verdict(good, f"sum {ran.stdout}" if good else failure(ran), threshold)


def first_error(stderr: str) -> str:
    """Return the first line of a compiler's output that contains "error", or else the last line."""
    return next((line.strip()[:300] for line in stderr.splitlines() if "error" in line.lower()), last_line(stderr))


def failure(ran: Result) -> str:
    """Describe how the compiled program failed."""
    step = {2: "no memory on the GPU, or no driver", 3: "the GPU did not run the kernel", 4: "wrong sum"}
    return step.get(ran.returncode) or last_line(ran.stderr) or f"exit code {ran.returncode}"


CHECKS: tuple[Check, ...] = (modules_of_the_driver, packages_are_held, gpus_as_expected, kernel_log, nvcc)
