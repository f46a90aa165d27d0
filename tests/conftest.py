"""The fixtures of all tests: a pillar, a copy of the checkout, and the fake NVML; and Ctrl-C reaches every process."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "nvml"))

from copied import checkout, pillar_of, workspace  # noqa: F401 fixtures
from fake_nvml import FakeNvml, Loaded, compile_library

# a process in the background of a script ignores Ctrl-C, and so would all processes that the tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def pillar():
    """pillar(target, {section: {key: value}}) returns a target's merged pillar with changes."""
    return pillar_of


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory):
    """The fake's path; `nvml_library_old` lacks the functions that came with branch 535 and later."""
    import pynvml  # noqa: F401 once here, not in the child of every test

    return compile_library(tmp_path_factory.mktemp("nvml")) or pytest.skip("needs a C compiler")


@pytest.fixture(scope="session")
def nvml_library_old(tmp_path_factory):
    return compile_library(tmp_path_factory.mktemp("nvml-old"), "-DOLD") or pytest.skip("needs a C compiler")


@pytest.fixture(scope="session")
def nvml_library_new(tmp_path_factory):
    """A driver of CUDA 14: what NVIDIA announced to remove is gone."""
    return compile_library(tmp_path_factory.mktemp("nvml-new"), "-DNEW") or pytest.skip("needs a C compiler")


@pytest.fixture
def nvml(tmp_path, nvml_library):
    """Four RTX 5090 at rest; `nvml.gpu(2, temperature={0: 95})` changes one; `nvml.environment` is for a process."""
    with Loaded(FakeNvml(tmp_path / "gpus.state", nvml_library)) as fake:
        yield fake


@pytest.fixture
def nvml_old(tmp_path, nvml_library_old):
    """The same with an old driver's library."""
    with Loaded(FakeNvml(tmp_path / "gpus.state", nvml_library_old)) as fake:
        yield fake


@pytest.fixture
def nvml_new(tmp_path, nvml_library_new):
    """The same with the library of a driver to come."""
    with Loaded(FakeNvml(tmp_path / "gpus.state", nvml_library_new)) as fake:
        yield fake
