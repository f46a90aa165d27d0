"""What a person gets who builds where that cannot work: one line, exit code 1, and nothing left behind.

Each is typed as a person would, in a copy of the checkout: `salt-call image.STAGE`.
"""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from test_kill import left

from vault_cube.image.workspace import default_cache

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and gives files to another user: needs root"),
]

TOP = Path(__file__).parents[2]
SALT_CALL = TOP / ".venv/bin/salt-call"


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def typed(checkout, cache):
    """typed(words, before=…) is (exit code, the lines that are neither a step nor its progress)."""

    def run(*words, before=(), cwd=checkout, **environment):
        ran = subprocess.run(
            [*before, SALT_CALL, *words], cwd=cwd, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(checkout), "VAULT_CUBE_CACHE": str(cache), **environment},
        )  # fmt: skip
        said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
        return ran.returncode, [line for line in said if not line.startswith(("→", "  …", "  ✓"))]

    return run


def in_small_disk(cache, mib):
    """A prefix under which the cache lies on a disk of some MiB, for the command alone."""
    script = f'mount -t tmpfs -o size={mib}m tmpfs {cache} && "$@"; status=$?; find {cache} -mindepth 2; exit $status'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


NO_NETWORK = ["unshare", "--net"]
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def test_an_unknown_target(typed):
    status, said = typed("image.preflight", "target=nope")
    assert status == 1
    assert said == [
        "Error running 'image.preflight': nope: no such target; pillar/targets/ has "
        "debian-12, debian-13, debian-13-nvidia, ubuntu-24.04"
    ]


def test_not_root(typed, checkout):
    if subprocess.run([*NOBODY, SALT_CALL, "--version"], check=False, capture_output=True).returncode:
        pytest.skip(f"{TOP} is closed to everybody else")
    # pytest's own folders are closed to everybody else
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["cp", "-r", checkout, place], check=True)
        subprocess.run(["chown", "-R", "65534:65534", place], check=True)
        status, said = typed(
            "image.preflight", before=NOBODY, cwd=f"{place}/checkout", HOME=place, PYTHONPATH=f"{place}/checkout",
            VAULT_CUBE_CACHE=f"{place}/cache",
        )  # fmt: skip
        assert status == 1
        assert said[0] == (
            "Error running 'image.preflight': building an image of debian-12 requires root: run `sudo make image`"
        )
        assert not (Path(place) / "cache").exists()


def test_no_network(typed, cache):
    status, said = typed("image.preflight", before=NO_NETWORK)
    assert status == 1
    assert len(said) == 1
    assert "cannot reach http" in said[0]
    assert "name a mirror in pillar key image:mirrors, or copy a bundle to this machine" in said[0]
    # and who skips preflight is told by fetch
    status, said = typed("image.fetch", before=NO_NETWORK)
    assert status == 1
    assert len(said) == 1
    assert "cannot be fetched: http" in said[0]
    assert said[0].endswith(": cannot connect")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_full_disk_before_the_build(typed, cache):
    status, said = typed("image.preflight", before=in_small_disk(cache, 64))
    assert status == 1
    assert len(said) == 1
    assert f"{cache}: " in said[0]
    assert " MiB needed, " in said[0]
    assert "make room, or set VAULT_CUBE_CACHE" in said[0]


def test_a_full_disk_during_the_build(typed, cache, checkout):
    store = os.environ.get("VAULT_CUBE_STORE") or str(default_cache() / "store")
    if not (Path(store)).is_dir():
        pytest.skip("the store is empty: test_kill.py and others fill it")
    status, said = typed("image.tools", before=in_small_disk(cache, 60), VAULT_CUBE_STORE=store)
    assert status == 1
    assert said == [
        f"Error running 'image.tools': tools: the disk of {cache} or {checkout} is full: make room, or set "
        f"VAULT_CUBE_CACHE to a folder elsewhere (log: {checkout}/build/debian-12/logs/tools.log)"
    ]


@pytest.mark.parametrize("bit", ["apt.lock", "python-salt.lock"])
def test_a_flipped_bit_in_a_lock(typed, checkout, cache, bit):
    file = checkout / "locks/debian-12" / bit
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    # a layer alone misses its packages before it reads what they are for
    for stage in ("image.preflight", "image.fetch", *(["image.layer"] if bit == "apt.lock" else [])):
        status, said = typed(stage, before=NO_NETWORK)
        assert status == 1
        assert said[0].startswith(f"Error running '{stage}': {file}: ")
        # preflight tells all that is wrong at once, and here there is no network
        assert len(said) == (2 if stage == "image.preflight" else 1)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_second_build_of_the_target(typed, checkout):
    (checkout / "build/debian-12").mkdir(parents=True)
    lock = checkout / "build/debian-12/lock"
    lock.write_text("4711")
    with subprocess.Popen(["flock", lock, "sleep", "600"], start_new_session=True) as other:
        time.sleep(0.5)
        status, said = typed("image.tools")
        os.killpg(other.pid, signal.SIGKILL)
    assert status == 1
    assert said == [
        "Error running 'image.tools': another build of debian-12 runs in this checkout (process 4711): "
        "wait for it or stop it"
    ]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c(checkout, cache, sent):
    """While mmdebstrap works: it ends with us, at once, and says no traceback."""
    store = os.environ.get("VAULT_CUBE_STORE") or str(default_cache() / "store")
    if not Path(store).is_dir():
        pytest.skip("the store is empty: test_kill.py and others fill it")
    log = checkout / "build/debian-12/logs/tools.log"
    with subprocess.Popen(
        [SALT_CALL, "image.tools"], cwd=checkout, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(checkout), "VAULT_CUBE_CACHE": str(cache), "VAULT_CUBE_STORE": store},
    ) as run:  # fmt: skip
        while not (log.exists() and "I: " in log.read_text()):
            assert run.poll() is None
            time.sleep(0.1)
        # as a terminal does it: all of the foreground group
        os.killpg(run.pid, sent)
        said = run.communicate(timeout=120)[0]
    assert run.returncode != 0
    assert "Traceback" not in said
    assert "Error running 'image.tools': stopped; what is finished is kept: run it again to go on" in said
    deadline = time.monotonic() + 30
    while left(cache) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(cache) == []
    if sent == signal.SIGINT:
        assert list((cache / "work").iterdir()) == []
