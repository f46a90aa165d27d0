"""NVML in this process: only a session's child comes here, because a call may never return.

A question that a device cannot answer gives None, and why: a device lacks many things, and one error must not hide the
rest. Only a device that is lost, or needs a reset, is asked nothing more.
"""

from __future__ import annotations

import ctypes
from _ctypes import dlclose
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault_cube.gpu.nvml import failures
from vault_cube.gpu.nvml.failures import NvmlProblem, Problem

# where the kernel's side of the driver shows itself; the second is Windows' own Linux
KERNEL_SIDE = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))


def load_library() -> ctypes.CDLL:
    """Load NVIDIA's library, and open nothing. Raises NvmlProblem where library or kernel module are missing.

    Opened without its module the library would make device nodes, and load the module by nvidia-modprobe: a question
    must not change a machine, least of all the one that builds an image.
    """
    try:
        library = ctypes.CDLL(failures.LIBRARY)
    except OSError as err:
        raise NvmlProblem(failures.no_library(str(err))) from None
    if not simulated(library) and not any(place.exists() for place in KERNEL_SIDE):
        raise NvmlProblem(failures.opening(9))
    return library


def absent() -> Problem | None:
    """Why NVML cannot be asked here at all; nothing where it may be tried. Leaves no library behind in this process."""
    try:
        dlclose(load_library()._handle)
    except NvmlProblem as err:
        return err.problem
    return None


def simulated(library: ctypes.CDLL) -> bool:
    """Whether it is a test's library: that one says so by a symbol that NVIDIA's has not."""
    return hasattr(library, "vault_cube_simulated")


class Nvml:
    """NVML, opened. `memory` is for questions that go on from one call to the next, such as listening to events.

    calling: told what is asked next, so that the parent knows where it hangs.
    """

    def __init__(self, calling: Callable[[str], None]) -> None:
        calling("nvmlInit")
        library = self._library()
        self.simulated = simulated(library)
        import pynvml

        self.pynvml = pynvml
        self.calling = calling
        self.memory: dict[str, Any] = {}
        self.lacks: dict[str, str] = {}
        self._devices: dict[int, Device] = {}
        try:
            # the library is open already, by our own call: pynvml only has to find it, too
            pynvml.nvmlInit()
            calling("nvmlDeviceGetCount")
            self.count: int = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as err:
            raise NvmlProblem(failures.opening(err.value)) from None

    @staticmethod
    def _library() -> ctypes.CDLL:
        """Load and open it by two calls of our own: where that fails, pynvml need not be imported."""
        library = load_library()
        try:
            code = library.nvmlInitWithFlags(0)
        except AttributeError:
            code = 13
        if code:
            raise NvmlProblem(failures.opening(code))
        return library

    def ask(self, function: str, *args: Any) -> Any:
        """Call a function that concerns no device: its value, or None and the reason in `lacks`."""
        self.calling(function)
        try:
            return getattr(self.pynvml, function)(*args)
        except self.pynvml.NVMLError as err:
            self.lacks[function] = failures.words(err.value)
            if err.value in failures.DEAD:
                raise NvmlProblem(failures.opening(err.value)) from None
        except UnicodeDecodeError:
            self.lacks[function] = "the answer is no text"
        return None

    def device(self, index: int) -> Device:
        """One GPU; the same object each time."""
        if index not in self._devices:
            self._devices[index] = Device(self, index)
        return self._devices[index]


class Device:
    """One GPU.

    problem: why it answers nothing more. lacks: function → why it has no such thing. errors: function → what went
    wrong; both of the current question only.
    """

    def __init__(self, nvml: Nvml, index: int) -> None:
        self.nvml, self.index = nvml, index
        self.problem: str | None = None
        self.kind: str | None = None
        self.lacks: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.handle: Any = None

    def begin(self) -> None:
        """Forget the last question's troubles; a GPU that was lost may be back after a reset."""
        self.problem, self.kind = None, None
        self.lacks, self.errors = {}, {}
        if self.handle is None:
            self.handle = self._call("nvmlDeviceGetHandleByIndex", self.index)
            if self.handle is None and self.problem is None:
                said = self.errors.get("nvmlDeviceGetHandleByIndex") or self.lacks.get("nvmlDeviceGetHandleByIndex")
                self.problem, self.kind = f"GPU {self.index}: {said}", "no handle"

    def ask(self, function: str, *args: Any) -> Any:
        """Call a function of this device: its value; None when it has none, with the reason kept."""
        return None if self.problem else self._call(function, self.handle, *args)

    def _call(self, function: str, *args: Any) -> Any:
        self.nvml.calling(f"{function} on GPU {self.index}")
        try:
            return getattr(self.nvml.pynvml, function)(*args)
        except self.nvml.pynvml.NVMLError as err:
            said = failures.words(err.value)
            if err.value in failures.DEAD:
                self.kind = failures.DEAD[err.value][0]
                self.problem = f"GPU {self.index}: {said}"
            elif err.value in failures.LACKING:
                self.lacks[function] = said
            else:
                self.errors[function] = said
        except UnicodeDecodeError:
            self.errors[function] = "the answer is no text"
        return None
