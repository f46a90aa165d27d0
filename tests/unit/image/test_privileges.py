"""Preflight runs the commands of a build and of its boot test, and explains what this process may not do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
PROGRAM = """
import sys
from pathlib import Path
from vault_cube.errors import VaultCubeError
from vault_cube.image import privileges
try:
    print(privileges.can_boot() if sys.argv[1] == "can_boot" else privileges.can_build(Path(sys.argv[2])))
except VaultCubeError as err:
    sys.exit(str(err))
"""


def without(capability):
    return ["setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}"]


@pytest.fixture
def judged(tmp_path):
    """judged(check, before, setup) runs a check in another process. Returns its one line; an error begins with !."""

    def run(check, before=(), setup="true"):
        cache = tmp_path / "cache"
        cache.mkdir(exist_ok=True)
        script = f'{setup}; exec "$@"'
        ran = subprocess.run(
            [*before, "sh", "-euc", script, str(cache), sys.executable, "-c", PROGRAM, check, cache],
            capture_output=True, text=True, check=False, cwd=TOP, env={**os.environ, "PYTHONPATH": str(TOP)},
        )  # fmt: skip
        line = (ran.stdout or f"!{ran.stderr}").strip()
        assert "\n" not in line, line
        # nothing is left behind
        assert list(cache.iterdir()) == []
        return line

    return run


def possible(*command):
    return os.geteuid() == 0 and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


needs_root = pytest.mark.skipif(
    not possible("unshare", "--mount", "--net"), reason="makes mounts and network namespaces: needs root"
)
IN_MOUNTS = ["unshare", "--mount", "--propagation", "private"]


@needs_root
def test_root_of_the_machine_may_build_and_boot(judged):
    assert judged("can_build") == "mounts, device nodes and owners work"
    if Path("/dev/net/tun").exists():
        assert judged("can_boot") == "the boot test's network works"


@needs_root
@pytest.mark.parametrize(("check", "before", "problem"), [
    ("can_build", without("mknod"), "device nodes (mknod: dev/null: Operation not permitted), without CAP_MKNOD"),
    ("can_build", without("sys_admin"), "which needs CAP_SYS_ADMIN"),
    ("can_build", ["unshare", "--user", "--map-root-user"], "this process may not mount what a build mounts"),
    ("can_boot", without("sys_admin"), "may not make the boot test's network (unshare: "),
    ("can_boot", without("net_admin"), "which needs CAP_NET_ADMIN"),
])  # fmt: skip
def test_missing_privileges_are_reported_as_such(judged, check, before, problem):
    if not possible(*before):
        pytest.skip("this machine does not allow it")
    line = judged(check, before)
    assert line.startswith("!this process may not")
    assert problem in line
    assert "rootless containers cannot build images" in line
    assert "VAULT_CUBE_CACHE" not in line


@needs_root
def test_a_missing_tun_device_is_reported_before_the_build(judged):
    setup = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3"
    assert judged("can_boot", IN_MOUNTS, setup).startswith("!/dev/net/tun is missing, which the boot test needs: ")


@needs_root
@pytest.mark.parametrize(("setup", "kind"), [
    ("mount -t tmpfs -o noexec tmpfs $0", "tmpfs (program cannot run: Permission denied)"),
    ("cd $0 && mkdir l u w && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w $0", "overlayfs"),
    ("mount -t tmpfs tmpfs $0 && mount -o remount,ro $0", "Read-only file system"),
])  # fmt: skip
def test_an_unfit_file_system_is_reported_as_such(judged, setup, kind):
    if "overlay" in setup:
        # the folders of the outer overlay are on a tmpfs, so that the cache itself stays empty
        setup = "mount -t tmpfs tmpfs $0 && " + setup
    line = judged("can_build", IN_MOUNTS, setup)
    assert line.startswith("!")
    assert kind in line


@needs_root
def test_a_file_system_that_is_unfit_is_told_apart_from_missing_privileges(judged):
    line = judged("can_build", IN_MOUNTS, "mount -t tmpfs -o noexec tmpfs $0")
    assert "set VAULT_CUBE_CACHE to a folder on ext4, xfs or btrfs, mounted without noexec" in line
    assert "container" not in line
