"""Every way in which NVML fails, in words for a person.

Codes: nvml.h, nvmlReturn_t (docs.nvidia.com/deploy/nvml-api, "Device Enums"). They stand here as numbers because
importing pynvml costs more than the whole answer of a machine without a driver.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError

LIBRARY = "libnvidia-ml.so.1"


# no dataclass here, nor in host.py: making one costs more than the whole answer of a machine without a driver
class Problem:
    """Why NVML does not answer: kind, a word for programs; said, a sentence; todo, what to do."""

    def __init__(self, kind: str, said: str, todo: str) -> None:
        self.kind, self.said, self.todo = kind, said, todo

    def __str__(self) -> str:
        return f"{self.said}; {self.todo}"


class NvmlProblem(VaultCubeError):
    """NVML does not answer; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[NvmlProblem], tuple[Problem]]:
        return NvmlProblem, (self.problem,)


# also what a handle gives whose GPU is gone: nvml.h has no code of its own for that
STALE = 2
# only what is stored in the inforom is lost, the GPU computes
CORRUPTED_INFOROM = 14
# not an error of the device: it has no such thing, the driver is too old or too new for the function, or the caller
# may not ask
LACKING = {
    STALE: "invalid argument",
    3: "not supported",
    4: "not permitted",
    6: "not found",
    13: "the driver has no such function",
    21: "no data",
    22: "no ECC for a virtual GPU",
    25: "the driver knows another version of the function",
    26: "the driver has dropped the function",
    27: "not ready",
    CORRUPTED_INFOROM: "the inforom is corrupted",
}
# the device answers nothing more, whatever it is asked
DEAD = {
    1: ("uninitialized", "NVML was closed"),
    8: ("no power", "the card's external power cables are not connected properly"),
    9: ("no driver", "the driver was unloaded"),
    15: ("gpu lost", "GPU is lost: it has fallen off the bus"),
    16: ("reset required", "GPU requires a reset"),
    18: ("version mismatch", "the driver was replaced while it was read"),
    28: ("gpu lost", "GPU is not found any more"),
}
ERRORS = {
    7: "the answer does not fit (insufficient size)",
    10: "time-out in the driver",
    11: "an interrupt problem",
    17: "the operating system refused",
    19: "in use",
    20: "not enough memory",
    999: "unknown error",
}
RESET = "stop the programs on the GPU, then `salt-call --local gpu.reset N`, or reboot"
"""`nvidia-smi --gpu-reset` alone fails while nvidia-persistenced or our own services hold the GPU: gpu.reset stops and
starts them (vault_cube/gpu/reset.py)."""
TODO = {
    "gpu lost": "cold boot (power off); if it happens again: reseat card and power connector, `journalctl -k -g NVRM`",
    "silent": f"`journalctl -k -g NVRM` says why; {RESET}; if it stays silent: power off and on, reseat the card",
    "no power": "power off; plug the card's power connector in until it clicks, with one cable per connector",
    "reset required": RESET,
    "no driver": "`modprobe nvidia`, then `journalctl -k -g NVRM` says why it does not load",
    "version mismatch": "reboot, so that the kernel loads the module of the installed driver",
    "hang": "`journalctl -k -g NVRM`; a process in state D keeps the driver: reboot",
}


def words(code: int) -> str:
    """What an NVML code means."""
    if code in DEAD:
        return DEAD[code][1]
    return LACKING.get(code) or ERRORS.get(code) or f"NVML error {code}"


def silent(reasons: Sequence[str]) -> Problem:
    """A GPU is listed and answers nothing useful. reasons: what its functions gave, in words."""
    usual = Counter(reasons).most_common(1)[0][0] if reasons else "no answer"
    return Problem("silent", f"it answers nothing useful ({usual})", TODO["silent"])


def opening(code: int, root: Path = Path("/")) -> Problem:
    """Why NVML could not be opened. code: what nvmlInit returned. root: where /proc and /dev are looked for."""
    if code == 9:
        return Problem("no driver", "the kernel module nvidia is not loaded", TODO["no driver"])
    if code == 18:
        loaded = re.search(r"(\d+\.\d+(?:\.\d+)?)", _text(root / "proc/driver/nvidia/version"))
        versions = f" (kernel module {loaded[1]})" if loaded else ""
        return Problem(
            "version mismatch",
            f"the driver's library and its kernel module differ in version{versions}",
            TODO["version mismatch"],
        )
    if code == 4:
        return Problem(
            "not permitted",
            "the driver's devices may not be opened (/dev/nvidiactl)",
            "run it as root, or see `ls -l /dev/nvidia*`",
        )
    if code == 13:
        return Problem(
            "function not found",
            f"{LIBRARY} is too old: it has no nvmlInitWithFlags",
            "install a driver of branch 396 or newer; `salt-call --local state.apply driver`",
        )
    kind = DEAD[code][0] if code in DEAD else "unknown"
    return Problem(kind, f"NVML does not open: {words(code)}", TODO.get(kind, "`journalctl -k -g NVRM` says more"))


def nothing(problem: Problem) -> dict[str, Any]:
    """The facts of a machine whose GPUs cannot be asked."""
    return {"accelerator": "cpu", "count": 0, "devices": [], "problem": str(problem), "problem_kind": problem.kind}


def no_library(said: str) -> Problem:
    """Why the library could not be loaded. said: the loader's own words."""
    if "No such file" in said:
        return Problem(
            "no library",
            f"no NVIDIA driver is installed ({LIBRARY} is missing)",
            "on a box with a GPU: `salt-call --local state.apply driver`",
        )
    return Problem("broken library", f"{LIBRARY} does not load: {said}", "install the driver's packages again")


def hang(call: str, seconds: float) -> Problem:
    """The driver gave no answer in time. call: the function that was called."""
    return Problem("hang", f"the driver hangs: {call or 'NVML'} gave no answer within {seconds:g} s", TODO["hang"])


def miscounted(count: int) -> Problem:
    """NVML counts more GPUs than a machine can have."""
    return Problem("unknown", f"NVML counts {count} GPUs", "`journalctl -k -g NVRM` says more; reboot")


def crash(call: str, status: int) -> Problem:
    """The library took its process down. status: as waitpid gives it."""
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    return Problem(
        "crash",
        f"the driver's library crashed in {call or 'NVML'} ({how})",
        "install the driver's packages again; library and kernel module may not fit",
    )


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
