"""Compatibility rules for wheels, Debian packages and the GPU driver, checked from the locks alone.

pip's metadata cannot express these rules, and a violation shows only on a machine with a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from packaging.utils import canonicalize_name
from packaging.version import Version

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks.pylock import Wheel
from vault_cube.settings import Settings
from vault_cube.settings.compatibility import PTX_OF_DRIVER, PTX_OF_WHEEL

Release = tuple[int, int]
"""A CUDA release: (major, minor)."""

# Triton compiles a launcher in C for each kernel when it first runs (triton/runtime/build.py: gcc or clang on PATH).
TRITON = re.compile(r"triton|\w+-triton|triton-\w+")
C_COMPILERS = ("gcc", "clang", "build-essential")
PYTHON_HEADERS = ("python3-dev", "libpython3-dev", "python{0}-dev", "libpython{0}-dev")
# nvcc runs `gcc` on C++ sources, which needs the C++ compiler proper from package g++.
NVCC = "nvidia-cuda-nvcc"
CXX_COMPILERS = ("g++", "build-essential")
# The parts of the CUDA toolkit that must be of one release to compile CUDA C++: compiler, optimizer, internal headers,
# CCCL, the runtime and its headers.
TOOLKIT = re.compile(r"nvidia-(cuda-nvcc|nvvm|cuda-crt|cuda-cccl|cuda-runtime)(-cu\d+)?")
# Packages that emit PTX, which the driver may have to compile. nvidia-cuda-nvcc-cu12 is not one of them: it contains
# ptxas, which emits machine code, but no nvcc.
EMIT_PTX = (NVCC, "nvidia-nvvm")
# Since this release cuda-python depends on cuda-bindings; older releases contained the same modules themselves.
CUDA_PYTHON_SPLIT = Version("12.8")


def check(settings: Settings, environments: Mapping[str, Sequence[Wheel]], packages: Collection[str]) -> None:
    """Check the locked wheels of a target.

    environments: name -> the wheels of its lock. packages: the names of the target's Debian packages.
    Raises VaultCubeError, one line per broken rule.
    """
    broken = [line for name, wheels in environments.items() for line in _broken(settings, name, wheels, set(packages))]
    if broken:
        raise VaultCubeError("\n".join(broken))


def _broken(settings: Settings, name: str, wheels: Sequence[Wheel], packages: set[str]) -> Iterator[str]:
    versions: dict[str, str] = {canonicalize_name(wheel.name): wheel.version for wheel in wheels}
    if settings.target.accelerator == "nvidia":
        yield from _without_compiler(name, versions, packages, settings.target.python)
    yield from _mixed_toolkit(name, versions)
    if settings.driver.branch:
        yield from _unreadable_ptx(name, versions, int(settings.driver.branch), settings.driver.generation or "")
    yield from _two_cuda_bindings(name, versions)


def _without_compiler(name: str, versions: Mapping[str, str], packages: set[str], python: str) -> Iterator[str]:
    triton = next((package for package in sorted(versions) if TRITON.fullmatch(package)), None)
    wanted = []
    if triton:
        wanted += [(triton, "a C compiler", C_COMPILERS), (triton, "Python's headers", PYTHON_HEADERS)]
    if NVCC in versions:
        wanted.append((NVCC, "a C++ compiler", CXX_COMPILERS))
    for package, need, names in wanted:
        if not packages.intersection(known.format(python) for known in names):
            yield (
                f"{name}: {package} {versions[package]} needs {need} on the box, but no locked package contains it: "
                f"add {names[0]} to frameworks:packages"
            )


def _mixed_toolkit(name: str, versions: Mapping[str, str]) -> Iterator[str]:
    parts = {package: _release(version) for package, version in versions.items() if TOOLKIT.fullmatch(package)}
    if len(set(parts.values())) > 1:
        listed = ", ".join(f"{package} {versions[package]}" for package in sorted(parts))
        runtime = next((release for part, release in parts.items() if "runtime" in part), min(parts.values()))
        yield (
            f"{name}: {listed} are parts of different CUDA releases and do not compile together: require all from "
            f"CUDA {_shown(runtime)} in frameworks:environments:{name}, such as "
            f"cuda-toolkit[nvcc,cccl]=={_shown(runtime)}.*"
        )


def _unreadable_ptx(name: str, versions: Mapping[str, str], branch: int, generation: str) -> Iterator[str]:
    known = [driver for driver in PTX_OF_DRIVER if driver <= branch]
    readable = PTX_OF_DRIVER[max(known)] if known else (0, 0)
    limit = f"driver {branch} compiles PTX of CUDA {_shown(readable)} and older only"
    newer = [package for package in EMIT_PTX if package in versions and _release(versions[package]) > readable]
    if newer:
        listed = ", ".join(f"{package} {versions[package]}" for package in newer)
        yield (
            f"{name}: {listed}: {limit}: require cuda-toolkit[nvcc]=={_shown(readable)}.* in "
            f"frameworks:environments:{name}"
        )
    for package, version in versions.items():
        ptx = PTX_OF_WHEEL.get((package, version), {}).get(generation, (0, 0))
        if ptx > readable:
            yield (
                f"{name}: {package} {version} has no machine code for {generation} GPUs, only PTX of CUDA "
                f"{_shown(ptx)}, and {limit}: choose a newer driver:branch, or leave out "
                f"frameworks:environments:{name}"
            )


def _two_cuda_bindings(name: str, versions: Mapping[str, str]) -> Iterator[str]:
    python, bindings = versions.get("cuda-python"), versions.get("cuda-bindings")
    if python and bindings and Version(python) < CUDA_PYTHON_SPLIT:
        yield (
            f"{name}: cuda-python {python} and cuda-bindings {bindings} both contain the modules cuda.bindings: "
            f"require cuda-python=={Version(bindings).major}.* in frameworks:environments:{name}"
        )


def _release(version: str) -> Release:
    """Return the CUDA release of a part.

    Since 13.3 the wheels of CCCL contain CCCL's own version: 13.3.5.0.6 is CCCL 3.5.0, of CUDA 13.5.
    """
    parts = Version(version).release
    return (parts[0], parts[2]) if len(parts) == 5 else (parts[0], parts[1])


def _shown(release: Release) -> str:
    return f"{release[0]}.{release[1]}"
