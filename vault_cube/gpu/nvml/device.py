"""NVML in this process. Only a session's child uses this module, because a call may never return.

A function that a device cannot answer returns None, and the reason is recorded: devices lack many features, and one
error must not hide the other readings. A device that is lost, needs a reset or answers nothing useful has a `problem`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from _ctypes import dlclose
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault_cube.gpu.nvml import failures, plausible
from vault_cube.gpu.nvml.failures import NvmlProblem, Problem

# files of the driver's kernel module; the second is that of Linux in Windows (WSL)
KERNEL_SIDE = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
# folders that the dynamic linker searches after LD_LIBRARY_PATH and its cache (ld.so(8))
LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
MOST_GPUS = 1024

# the library may return these from memory after a GPU is lost, so they do not show that the GPU works
CONSTANT = frozenset(
    f"nvmlDeviceGet{name}"
    for name in (
        "HandleByIndex", "Name", "UUID", "Serial", "VbiosVersion", "BoardPartNumber", "InforomImageVersion",
        "MinorNumber", "Architecture", "Brand", "CudaComputeCapability", "PciInfo", "NumGpuCores", "MemoryBusWidth",
        "GspFirmwareVersion", "NumaNodeId", "TopologyCommonAncestor", "P2PStatus", "NumFans",
    )
)  # fmt: skip
VITAL = ("nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo")
"""A GPU that answers none of these cannot be used, whatever else it answers."""


def load_library() -> ctypes.CDLL:
    """Load NVIDIA's library without opening NVML. Raises NvmlProblem if the library or the kernel module is missing.

    If NVML is opened without the module, it creates device nodes and loads the module with nvidia-modprobe. A
    reading must not change a machine, especially not one that builds an image.
    """
    try:
        library = ctypes.CDLL(failures.LIBRARY)
    except OSError as err:
        raise NvmlProblem(failures.no_library(str(err))) from None
    if not simulated(library) and not any(place.exists() for place in KERNEL_SIDE):
        raise NvmlProblem(failures.opening(9))
    return library


def absent() -> Problem | None:
    """Return a problem if NVIDIA's library is not installed, so that no child is needed; None if it may be installed.

    Searches for the file without loading it, because code in a library can hang or end the process.
    """
    return None if _installed(failures.LIBRARY) else failures.no_library("No such file")


def _installed(name: str) -> bool:
    with contextlib.suppress(OSError):
        # succeeds if the process has already loaded the library
        dlclose(ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)._handle)
        return True
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if any(Path(folder, name).exists() for folder in (*folders, *LIBRARY_FOLDERS)):
        return True
    try:
        return name.encode() + b"\0" in Path("/etc/ld.so.cache").read_bytes()
    except OSError:
        return False


def simulated(library: ctypes.CDLL) -> bool:
    """Return whether the library is the fake of the tests, which has a symbol that NVIDIA's library lacks."""
    return hasattr(library, "vault_cube_simulated")


class Nvml:
    """NVML, opened. `memory` keeps state between questions, such as the registration for events.

    calling: is called with the name of each NVML function before that function, so that the parent can report a hang.
    """

    def __init__(self, calling: Callable[[str], None]) -> None:
        calling(f"loading {failures.LIBRARY}")
        library = load_library()
        calling("nvmlInit")
        self.simulated = simulated(library)
        _initialise(library)
        import pynvml

        self.pynvml = pynvml
        self.calling = calling
        self.memory: dict[str, Any] = {}
        self.lacks: dict[str, str] = {}
        self._devices: dict[int, Device] = {}
        try:
            # the library is already open; this only initialises pynvml
            pynvml.nvmlInit()
        except pynvml.NVMLError as err:
            raise NvmlProblem(failures.opening(err.value)) from None
        self.count = self.counted()

    def counted(self) -> int:
        """Count the GPUs that the driver lists now. Raises NvmlProblem."""
        self.calling("nvmlDeviceGetCount")
        try:
            count: int = self.pynvml.nvmlDeviceGetCount()
        except self.pynvml.NVMLError as err:
            raise NvmlProblem(failures.opening(err.value)) from None
        if count > MOST_GPUS:
            raise NvmlProblem(failures.miscounted(count))
        self.count = count
        return count

    def ask(self, function: str, *args: Any) -> Any:
        """Call a function without a device. Returns its value, or None with the reason in `lacks`."""
        self.calling(function)
        try:
            return plausible.checked(function, args, getattr(self.pynvml, function)(*args))
        except self.pynvml.NVMLError as err:
            self.lacks[function] = failures.words(err.value)
            if err.value in failures.DEAD:
                raise NvmlProblem(failures.opening(err.value)) from None
        except UnicodeDecodeError:
            self.lacks[function] = "the answer is no text"
        return None

    def device(self, index: int) -> Device:
        """Return a GPU; always the same object."""
        if index not in self._devices:
            self._devices[index] = Device(self, index)
        return self._devices[index]


def _initialise(library: ctypes.CDLL) -> None:
    """Initialise NVML without pynvml, which then need not be imported if this fails."""
    try:
        code = library.nvmlInitWithFlags(0)
    except AttributeError:
        code = 13
    if code:
        raise NvmlProblem(failures.opening(code))


class Device:
    """One GPU. All attributes except the handle belong to the current question.

    problem, kind: why the GPU no longer answers. lacks: function → why it is not supported. errors: function → error.
    dropped: function → the impossible value. answered: functions that returned a value. unreadable: functions
    that reported a corrupted inforom.
    """

    def __init__(self, nvml: Nvml, index: int) -> None:
        self.nvml, self.index = nvml, index
        self.handle: Any = None
        self._most_power_mw: float | None = None
        self._clear()

    def _clear(self) -> None:
        self.problem: str | None = None
        self.kind: str | None = None
        self.lacks: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.dropped: dict[str, str] = {}
        self.answered: set[str] = set()
        self.unreadable: list[str] = []
        self._stale = False

    def begin(self) -> None:
        """Start a question: discard earlier errors, because a lost GPU may be back after a reset."""
        self._clear()
        if self.handle is None:
            self.handle = self._call("nvmlDeviceGetHandleByIndex", self.index)
            if self.handle is None and self.problem is None:
                reason = self.errors.get("nvmlDeviceGetHandleByIndex") or self.lacks.get("nvmlDeviceGetHandleByIndex")
                self.problem, self.kind = f"GPU {self.index}: {reason}", "no handle"

    def settle(self) -> None:
        """End a question: a GPU that answered nothing useful has a problem, whatever codes it returned.

        After any error, reads name, UUID and memory as well, so that all questions come to the same result.
        """
        if self.problem is None and (self.errors or self._stale or not self._alive()):
            for function in VITAL:
                if function not in (*self.answered, *self.errors, *self.lacks):
                    self.ask(function)
            if self.problem is None and not (self._alive() and self.answered & set(VITAL)):
                silent = failures.silent([*self.errors.values(), *self.lacks.values()])
                self.problem, self.kind = f"GPU {self.index}: {silent.reason}", silent.kind
        if self.problem is not None:
            # after a reset the old handle is invalid
            self.handle = None

    def _alive(self) -> bool:
        return bool(self.answered - CONSTANT)

    def ask(self, function: str, *args: Any) -> Any:
        """Call a function of this device. Returns its value, or None, with the reason recorded."""
        return None if self.problem else self._call(function, self.handle, *args)

    def first(self, *functions: str, args: tuple[Any, ...] = ()) -> Any:
        """Call functions until one returns a value; the newest comes first, because drivers remove the older ones."""
        for function in functions:
            value = self.ask(function, *args)
            if value is not None or function in self.dropped:
                return value
        return None

    def keep(self, what: str, value: Any, good: Any) -> Any:
        """Return the plausible part of a value, and record a dropped value. what: the function's name."""
        if good is None and value is not None:
            self.dropped[what] = plausible.shown(value)
        return good

    def _call(self, function: str, *args: Any) -> Any:
        self.nvml.calling(f"{function} on GPU {self.index}")
        try:
            value = getattr(self.nvml.pynvml, function)(*args)
        except self.nvml.pynvml.NVMLError as err:
            self._failed(function, err.value)
        except UnicodeDecodeError:
            self.errors[function] = "the answer is no text"
        else:
            self.answered.add(function)
            return self.keep(function, value, self._plausible(function, args[1:], value))
        return None

    def _failed(self, function: str, code: int) -> None:
        reason = failures.words(code)
        if code in failures.DEAD:
            self.kind = failures.DEAD[code][0]
            self.problem = f"GPU {self.index}: {reason}"
        elif code in failures.LACKING:
            self.lacks[function] = reason
            self._stale |= code == failures.STALE
            if code == failures.CORRUPTED_INFOROM:
                self.unreadable.append(function)
        else:
            self.errors[function] = reason

    def _plausible(self, function: str, args: tuple[Any, ...], value: Any) -> Any:
        good = plausible.checked(function, args, value)
        if function == "nvmlDeviceGetUtilizationRates" and good is not None and None in vars(good).values():
            self.dropped[function] = plausible.shown(value)
        if function == "nvmlDeviceGetPowerUsage" and good is not None and good > self._power_limit():
            return None
        return good

    def _power_limit(self) -> float:
        """Return the highest plausible power draw, in mW."""
        if self._most_power_mw is None:
            limits = self.ask("nvmlDeviceGetPowerManagementLimitConstraints")
            self._most_power_mw = limits[1] * plausible.POWER_FACTOR if limits else plausible.MOST_POWER_MW
        return self._most_power_mw
