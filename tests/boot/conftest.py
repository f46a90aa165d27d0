"""Fixtures for a guest of the finished image, booted once for all tests of this folder.

VAULT_CUBE_IMAGE is the image (default: the newest one in dist/), VAULT_CUBE_TARGET its target.
"""

import os
import subprocess
from pathlib import Path

import pytest
import stand_in_gpu
import testinfra
from fake_nvml import FakeNvml

from vault_cube.image.guest.cases import Expected
from vault_cube.image.guest.machine import guest
from vault_cube.image.guest.qemu import Hardware, Qemu
from vault_cube.image.guest.seed import seed
from vault_cube.image.layers import tools
from vault_cube.image.workspace import Workspace
from vault_cube.settings import check

TOP = Path(__file__).parents[2]
CUDA_SOURCE = TOP / "tests/nvml/fake_cuda.c"
TARGET = os.environ.get("VAULT_CUBE_TARGET", "debian-12")


@pytest.fixture(scope="session")
def image():
    path = os.environ.get("VAULT_CUBE_IMAGE")
    images = (
        [Path(path)]
        if path
        else sorted((TOP / "dist").glob(f"*-{TARGET}.qcow2"), key=lambda file: file.stat().st_mtime)
    )
    if not images or not images[-1].is_file():
        pytest.exit(f"no image of {TARGET}: run `make image TARGET={TARGET}` or set VAULT_CUBE_IMAGE", returncode=1)
    return images[-1]


@pytest.fixture(scope="session")
def space():
    """The target's workspace, with a pillar that Salt has rendered and the schema has checked."""
    import salt.config
    import salt.loader
    from salt.pillar import get_pillar

    before = Path.cwd()
    os.chdir(TOP)  # the paths in conf/minion are relative
    try:
        opts = salt.config.minion_config(str(TOP / "conf/minion"))
        opts["vault_cube"] = {**opts["vault_cube"], "target": TARGET}
        pillar = get_pillar(opts, salt.loader.grains(opts), opts["id"], None).compile_pillar()
    finally:
        os.chdir(before)
    assert not pillar.get("_errors"), pillar["_errors"]
    return Workspace(TOP, check(pillar), dict(pillar))


@pytest.fixture(scope="session")
def settings(space):
    return space.settings


@pytest.fixture(scope="session")
def expected(settings):
    return Expected.of(settings)


@pytest.fixture(scope="session")
def qemu(space):
    """The QEMU of the tools tree if there is one, else this machine's."""
    entry = tools.find(space)
    return Qemu.of_tree(entry.tree) if entry else Qemu.of_host()


@pytest.fixture(scope="session")
def hardware():
    return Hardware(memory_mib=3072, cpus=2, growth_gib=4)


@pytest.fixture(scope="session")
def box(image, expected, qemu, hardware, tmp_path_factory):
    """The running guest after its first boot."""
    console = tmp_path_factory.mktemp("boot") / "console.log"
    with (
        seed(expected.user, expected.ssh_port) as login,
        guest(image, login, qemu, hardware, console=console) as running,
    ):
        running.wait_for_ssh()
        running.ssh("cloud-init status --wait; systemctl is-system-running --wait", timeout_s=1800, check=False)
        yield running


@pytest.fixture(scope="session")
def host(box):
    """testinfra's connection to the guest as the user; use `with host.sudo():` for root."""
    return testinfra.get_host(
        f"ssh://{box.seed.user}@127.0.0.1:{box.run.port}",
        ssh_identity_file=str(box.seed.key),
        ssh_extra_args="-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentityAgent=none",
    )


@pytest.fixture(scope="module")
def two_gpus(nvml_library, tmp_path_factory):
    """The fake NVML of the stand-in driver, with two GPUs."""
    fake = FakeNvml(tmp_path_factory.mktemp("nvml") / "gpus.state", nvml_library)
    del fake.state["gpus"][len(stand_in_gpu.NODES) :]
    fake.save()
    return fake


@pytest.fixture(scope="session")
def stand_in_library(nvml_library, tmp_path_factory):
    """stand_in_library(soname) compiles a library that can be loaded but computes nothing."""
    folder = tmp_path_factory.mktemp("libraries")

    def make(soname):
        file = folder / soname
        # ldconfig names its link after the soname, not after the file
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", file, CUDA_SOURCE], check=True)
        return file

    return make


@pytest.fixture(scope="session")
def cuda(stand_in_library):
    return stand_in_library("libcuda.so.1")
