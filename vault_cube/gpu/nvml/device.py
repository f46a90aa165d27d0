"""NVML in this process. Only a session's child uses this module, because a call may never return.

A question that a device cannot answer gives None, and the reason is kept: a device lacks many things, and one error
must not hide the rest. A device that is lost, needs a reset or answers nothing useful has a `problem`.
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

# where the kernel's side of the driver shows itself; the second is Windows' own Linux
KERNEL_SIDE = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
# what the loader searches after LD_LIBRARY_PATH and its cache (ld.so(8))
LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
MOST_GPUS = 1024

# the library may keep these from before the GPU was lost: an answer to them is no sign of life
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
    """Load NVIDIA's library, and open nothing. Raises NvmlProblem if the library or the kernel module is missing.

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
    """Return why no child needs to be started: NVIDIA's library is not on this machine. None if it may be.

    Looks for the file and does not load it: code in a library can hang or end the process that loads it.
    """
    return None if _installed(failures.LIBRARY) else failures.no_library("No such file")


def _installed(name: str) -> bool:
    with contextlib.suppress(OSError):
        # one that the process has loaded already
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
    """Whether it is a test's library: that one says so by a symbol that NVIDIA's has not."""
    return hasattr(library, "vault_cube_simulated")


class Nvml:
    """NVML, opened. `memory` is for questions that go on from one call to the next, such as listening to events.

    calling: called with the name of each function before it is called, so that the parent knows where it hangs.
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
            # the library is open already, by our own call: pynvml only has to find it, too
            pynvml.nvmlInit()
        except pynvml.NVMLError as err:
            raise NvmlProblem(failures.opening(err.value)) from None
        self.count = self.counted()

    def counted(self) -> int:
        """Count the GPUs as the driver lists them now. Raises NvmlProblem."""
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
        """Call a function that concerns no device: its value, or None and the reason in `lacks`."""
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
        """One GPU; the same object each time."""
        if index not in self._devices:
            self._devices[index] = Device(self, index)
        return self._devices[index]


def _initialise(library: ctypes.CDLL) -> None:
    """Initialise NVML by a call of our own: if that fails, pynvml need not be imported."""
    try:
        code = library.nvmlInitWithFlags(0)
    except AttributeError:
        code = 13
    if code:
        raise NvmlProblem(failures.opening(code))


class Device:
    """One GPU. All but the handle are of the current question only.

    problem, kind: why the GPU answers nothing more. lacks: function → why the GPU has no such thing. errors: function →
    what went wrong. dropped: function → the value that cannot be true. answered: functions that gave a value.
    unreadable: functions that found the inforom corrupted.
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
        """Forget the last question's troubles; a GPU that was lost may be back after a reset."""
        self._clear()
        if self.handle is None:
            self.handle = self._call("nvmlDeviceGetHandleByIndex", self.index)
            if self.handle is None and self.problem is None:
                reason = self.errors.get("nvmlDeviceGetHandleByIndex") or self.lacks.get("nvmlDeviceGetHandleByIndex")
                self.problem, self.kind = f"GPU {self.index}: {reason}", "no handle"

    def settle(self) -> None:
        """End a question: a GPU that answered nothing useful has a problem, whatever code it gave.

        Asks for name, UUID and memory if anything is suspicious, so that each question comes to the same result.
        """
        if self.problem is None and (self.errors or self._stale or not self._alive()):
            for function in VITAL:
                if function not in (*self.answered, *self.errors, *self.lacks):
                    self.ask(function)
            if self.problem is None and not (self._alive() and self.answered & set(VITAL)):
                silent = failures.silent([*self.errors.values(), *self.lacks.values()])
                self.problem, self.kind = f"GPU {self.index}: {silent.reason}", silent.kind
        if self.problem is not None:
            # after a reset the old handle is of no use
            self.handle = None

    def _alive(self) -> bool:
        return bool(self.answered - CONSTANT)

    def ask(self, function: str, *args: Any) -> Any:
        """Call a function of this device: its value; None if there is none, with the reason kept."""
        return None if self.problem else self._call(function, self.handle, *args)

    def first(self, *functions: str, args: tuple[Any, ...] = ()) -> Any:
        """Call functions until one has a value: the newest first, since drivers drop the older ones."""
        for function in functions:
            value = self.ask(function, *args)
            if value is not None or function in self.dropped:
                return value
        return None

    def keep(self, what: str, value: Any, good: Any) -> Any:
        """Return what is good of a value, and note that something of it was dropped. what: the function's name."""
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
        """What no reading of the power can exceed, in mW."""
        if self._most_power_mw is None:
            limits = self.ask("nvmlDeviceGetPowerManagementLimitConstraints")
            self._most_power_mw = limits[1] * plausible.POWER_FACTOR if limits else plausible.MOST_POWER_MW
        return self._most_power_mw
