"""All ways in which NVML fails, described for a person.

Codes: nvml.h, nvmlReturn_t (docs.nvidia.com/deploy/nvml-api, "Device Enums"). They are numbers here because
importing pynvml takes longer than everything else on a machine without a driver.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vault_cube.errors import VaultCubeError

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Facts

LIBRARY = "libnvidia-ml.so.1"


# not a dataclass, here and in host.py: creating one takes longer than everything else on a machine without a driver
class Problem:
    """Why NVML does not answer: kind, a word for programs; reason, a sentence; todo, what to do."""

    def __init__(self, kind: str, reason: str, todo: str) -> None:
        self.kind, self.reason, self.todo = kind, reason, todo

    def __str__(self) -> str:
        return f"{self.reason}; {self.todo}"


class NvmlProblem(VaultCubeError):
    """Raised if NVML does not answer; `problem` has the reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[NvmlProblem], tuple[Problem]]:
        return NvmlProblem, (self.problem,)


# NVML also returns this for the handle of a GPU that is gone; nvml.h has no separate code for that
STALE = 2
# only the contents of the inforom are lost; the GPU computes
CORRUPTED_INFOROM = 14
# not an error of the device: it lacks the feature, the driver is too old or too new for the function, or the caller
# lacks a permission
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
# the device no longer answers any function
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
    "silent": f"`journalctl -k -g NVRM` shows why; {RESET}; if it stays silent: power off and on, reseat the card",
    "no power": "power off; plug the card's power connector in until it clicks, with one cable per connector",
    "reset required": RESET,
    "no driver": "`modprobe nvidia`, then `journalctl -k -g NVRM` shows why it does not load",
    "version mismatch": "reboot, so that the kernel loads the module of the installed driver",
    "hang": "`journalctl -k -g NVRM`; a process in state D keeps the driver: reboot",
}


def words(code: int) -> str:
    """Return the meaning of an NVML return code."""
    if code in DEAD:
        return DEAD[code][1]
    return LACKING.get(code) or ERRORS.get(code) or f"NVML error {code}"


def silent(reasons: Sequence[str]) -> Problem:
    """Return the problem of a GPU that is listed and answers nothing useful. reasons: the errors of its functions."""
    usual = Counter(reasons).most_common(1)[0][0] if reasons else "no answer"
    return Problem("silent", f"it answers nothing useful ({usual})", TODO["silent"])


def opening(code: int, root: Path = Path("/")) -> Problem:
    """Return why NVML could not be opened. code: the result of nvmlInit. root: folder that contains /proc and /dev."""
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
            f"{LIBRARY} is too old: it lacks nvmlInitWithFlags",
            "install a driver of branch 396 or newer; `salt-call --local state.apply driver`",
        )
    kind = DEAD[code][0] if code in DEAD else "unknown"
    return Problem(kind, f"NVML does not open: {words(code)}", TODO.get(kind, "`journalctl -k -g NVRM` shows more"))


def nothing(problem: Problem) -> Facts:
    """Return the facts of a machine whose GPUs do not answer."""
    return {"accelerator": "cpu", "count": 0, "devices": [], "problem": str(problem), "problem_kind": problem.kind}


def no_library(message: str) -> Problem:
    """Return why the library could not be loaded. message: the loader's message."""
    if "No such file" in message:
        return Problem(
            "no library",
            f"no NVIDIA driver is installed ({LIBRARY} is missing)",
            "on a box with a GPU: `salt-call --local state.apply driver`",
        )
    return Problem("broken library", f"{LIBRARY} does not load: {message}", "install the driver's packages again")


def hang(call: str, seconds: float) -> Problem:
    """Return the problem of a driver without an answer. call: the function that was called. seconds: the time limit."""
    return Problem("hang", f"the driver hangs: {call or 'NVML'} gave no answer within {seconds:g} s", TODO["hang"])


def miscounted(count: int) -> Problem:
    """Return the problem of an NVML that counts more GPUs than a machine can have."""
    return Problem("unknown", f"NVML counts {count} GPUs", "`journalctl -k -g NVRM` shows more; reboot")


def crash(call: str, status: int) -> Problem:
    """Return the problem of a library that ended its process. status: as from waitpid."""
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
