"""A box with four RTX 5090, and a CUDA driver that keeps its links busy."""

import shutil
import subprocess

import pytest
from copied import TOP
from fake_box import Box

CUDA = TOP / "tests/nvml/fake_cuda.c"


@pytest.fixture
def box(nvml, tmp_path):
    return Box(nvml, tmp_path)


@pytest.fixture
def cuda(tmp_path, monkeypatch):
    """A libcuda.so.1 that copies nothing, and tells the fake NVML that it does."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    library = tmp_path / "cuda/libcuda.so.1"
    library.parent.mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", library, CUDA], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
