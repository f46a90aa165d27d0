"""NVIDIA's own libraries, on a machine without a driver: they say so in one line, and have every function that we call.

They come from Debian's packages, as the lock of debian-13-nvidia names them, where the store has fetched them.
"""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
from copied import TOP

from vault_cube.image.workspace import default_cache

STORE = Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store")
LOCK = TOP / "locks/debian-13-nvidia/apt.lock"

# what came after the branch that Debian has; `lacks` bears it
NEWER = {"nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureV"}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The folder with libnvidia-ml.so.1 and libcuda.so.1, unpacked."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")
    folder = tmp_path_factory.mktemp("libraries")
    for package in ("libnvidia-ml1", "libcuda1"):
        line = re.search(rf"^driver {package} .*$", LOCK.read_text(), re.MULTILINE)
        digest = line[0].split()[7]
        if not (STORE / digest[:2] / digest).is_file():
            pytest.skip(f"{package} was not fetched: `salt-call image.fetch target=debian-13-nvidia` does")
        subprocess.run(["dpkg-deb", "-x", STORE / digest[:2] / digest, folder], check=True)
    return next(folder.rglob("libnvidia-ml.so.1")).parent


ASK = """
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.nvml.session import Session
with Session() as session:
    found = facts(session)
print(found["problem_kind"], found["count"], "simulated" in found, found["problem"], sep="|")
"""


# opened without its module the library makes /dev/nvidiactl: here it cannot
NO_NODES = 'mount --bind /dev /dev && mount -o remount,bind,ro /dev && exec "$@"'
# a /dev of its own shows what was made there
OWN_NODES = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && "$@"; ls /dev >&2'


def ask(libraries, *command, dev=NO_NODES):
    """What a Python of its own says with NVIDIA's libraries: (stdout, stderr)."""
    prefix = [] if os.geteuid() else ["unshare", "-m", "sh", "-c", dev, "sh"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(TOP)}
    words = [*prefix, sys.executable, *command]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.strip(), ran.stderr.strip()


def test_the_library_says_that_there_is_no_driver(libraries):
    evidence, err = ask(libraries, "-c", ASK)
    kind, count, simulated, problem = evidence.split("|")
    assert not err
    assert (kind, count, simulated) == ("no driver", "0", "False")
    assert problem.startswith("the kernel module nvidia is not loaded; `modprobe nvidia`")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could make device nodes")
def test_asking_makes_no_device_nodes(libraries):
    assert ask(libraries, "-c", ASK, dev=OWN_NODES)[1] == "null"


def test_cuda_says_that_there_is_no_gpu(libraries):
    evidence, _ = ask(libraries, str(TOP / "vault_cube/gpu/read/copying.py"), "0.1", "0", "1")
    assert evidence.splitlines() == ["0 cuInit: CUDA error 100", "1 cuInit: CUDA error 100"]


def exported(library):
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in listed.splitlines()}


def symbols(name):
    """What a function of the bindings looks up in the library; some only call the version that they mean."""
    source = inspect.getsource(getattr(pynvml, name))
    result = re.findall(r'_nvmlGetFunctionPointer\("(\w+)"', source)
    others = set(re.findall(r"\b(nvml\w+)\(", source)) - {name}
    return result or [symbol for other in others for symbol in symbols(other)]


def test_every_function_that_we_call_is_there(libraries, nvml_library):
    has = exported(libraries / "libnvidia-ml.so.1")
    files = [*(TOP / "vault_cube/gpu").rglob("*.py")]
    called = {name for file in files for name in re.findall(r'"(nvml[A-Z]\w+)"', file.read_text())}
    missing = {symbol for name in called & set(dir(pynvml)) for symbol in symbols(name)} - has
    assert len(called) > 50
    assert missing == NEWER
    # the fake has no function that NVIDIA's has not
    assert {name for name in exported(nvml_library) if name.startswith("nvml")} - has == NEWER
