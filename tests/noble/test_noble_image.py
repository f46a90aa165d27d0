"""`ubuntu-24.04` locked, built, booted and verified as a user would, against the stand-in archive: see README.md.

Everything comes from this machine's own server but Debian's tools tree and Salt's wheels. The cache has no layers.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import mirror
import noble_archive
import noble_checkout
import pytest
import yaml
from noble_checkout import TARGET, TOP

from vault_cube.image.cache import layer_cache
from vault_cube.image.locks.aptlock import AptLock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="builds an image: needs root"),
    pytest.mark.skipif(not shutil.which("gpg"), reason="signs the archive: needs gnupg"),
]

NAME = f"noble-stand-in-1.0.0-{TARGET}"
LIMIT_S = 60 * 60
"""Seconds after which a goal counts as hanging. All goals together take 18 minutes on 2 cores that do nothing else."""


@pytest.fixture(scope="module")
def served():
    """The archive's folder and the address that it is served at."""
    root = noble_archive.ready(TOP / "build")
    with mirror.running(root) as server:
        yield root, server.url


class Run:
    """A copied checkout, its cache, and `make` in it."""

    def __init__(self, place, root, url, archive="ubuntu"):
        self.checkout, self.cache = noble_checkout.make(place / "checkout", root, url, archive), place / "cache"
        noble_checkout.store(self.cache / "store")
        self.seconds = {}

    def make(self, goal, before=()):
        """Run a goal of the Makefile. Returns its exit status and all that it printed."""
        started = time.monotonic()
        environment = noble_checkout.environment(self.checkout, self.cache)
        with subprocess.Popen(
            [*before, "make", goal, f"TARGET={TARGET}"], cwd=self.checkout, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
        ) as started_make:  # fmt: skip
            try:
                printed, _ = started_make.communicate(timeout=LIMIT_S)
            finally:
                if started_make.poll() is None:
                    # what make has started, such as a guest, would go on without it
                    os.killpg(started_make.pid, signal.SIGKILL)
        self.seconds[goal] = round(time.monotonic() - started)
        return started_make.returncode, printed

    def manifest(self):
        return json.loads((self.checkout / f"dist/{NAME}.manifest.json").read_text())

    def layers(self):
        """The trees of the image's layers, the last one first."""
        keys = reversed(self.manifest()["layers"].values())
        entries = [layer_cache.find(self.cache / "layers", key) for key in keys]
        return [entry.tree for entry in entries if entry]

    def file(self, name):
        """A file of the image, from the last layer that has it."""
        return next(tree / name for tree in self.layers() if os.path.lexists(tree / name))

    def folder(self, name):
        """The files of a folder of the image by name."""
        found = {}
        for tree in reversed(self.layers()):
            found |= {file.name: file for file in (tree / name).glob("*")}
        return found


@pytest.fixture(scope="module")
def run(served, tmp_path_factory):
    """lock, image and verify, once for all tests of this module."""
    place = tmp_path_factory.mktemp("noble")
    try:
        run = Run(place, *served)
        run.printed = {}
        for goal in ("lock", "image", "verify"):
            status, printed = run.make(goal)
            run.printed[goal] = printed
            assert status == 0, f"make {goal} TARGET={TARGET} against the stand-in archive:\n{printed[-4000:]}"
            print(f"\nmake {goal}: {run.seconds[goal]} s")
        yield run
    finally:
        # gigabytes, and pytest keeps the folders of three runs
        shutil.rmtree(place, ignore_errors=True)


def test_this_builder_has_no_keyring_of_ubuntu():
    if "ID=debian" not in Path("/etc/os-release").read_text():
        pytest.skip("this builder is no Debian")
    assert not Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg").exists()


def test_the_lock_comes_from_the_stand_in_and_says_where_it_differs(run):
    assert f"next: make image TARGET={TARGET}" in run.printed["lock"]
    lock = AptLock.read(run.checkout / f"locks/{TARGET}/apt.lock")
    assert {deb.archive for deb in lock.debs} == {"ubuntu", "nvidia-container-toolkit"}
    assert {deb.suite for deb in lock.debs} == {"-", "noble", "noble-updates", "noble-security"}
    kernels = [deb.name for deb in lock.debs if re.match(r"linux-image-\d", deb.name)]
    assert len(kernels) == 1
    versions = [deb.version for deb in lock.debs if re.match("linux-(image|modules|firmware)", deb.name)]
    assert len(versions) >= 3
    assert [version for version in versions if "standin" not in version] == []


def test_the_image_passed_its_boot_test(run):
    boot = run.manifest()["boot_test"]["checks"]
    assert [check for check in boot if check["status"] != "ok"] == []


def test_two_builds_are_equal(run):
    report = json.loads((run.checkout / f"build/{TARGET}/verify/verify.json").read_text())
    assert report["same"] is True
    assert report["raw_sha256"] == run.manifest()["raw_sha256"]


def test_every_result_says_that_it_is_a_stand_in(run):
    assert run.manifest()["name"] == NAME
    assert "stand-in made of Debian 13 packages" in run.file("usr/lib/os-release").read_text()
    assert json.loads(run.file("etc/vault-cube/image.json").read_text())["name"] == "noble-stand-in"


def test_cloud_init_looks_where_the_pillar_says(run):
    files = run.folder("etc/cloud/cloud.cfg.d")
    assert "90_dpkg.cfg" in files
    settings = {}
    for name in sorted(name for name in files if name.endswith(".cfg")):
        settings |= yaml.safe_load(files[name].read_text()) or {}
    assert settings["datasource_list"] == ["NoCloud", "None"]


def test_ssh_waits_for_the_first_connection(run):
    wants = run.folder("etc/systemd/system/sockets.target.wants")
    assert "ssh.socket" in wants
    assert "ssh.service" not in run.folder("etc/systemd/system/multi-user.target.wants")


def test_persistence_starts_at_boot(run):
    assert "nvidia-persistenced.service" in run.folder("etc/systemd/system/multi-user.target.wants")
    assert (
        "--persistence-mode" in run.file("etc/systemd/system/nvidia-persistenced.service.d/vault-cube.conf").read_text()
    )


def test_the_kernel_image_has_the_microcode_of_both_makers(run):
    initrd = next(file for name, file in run.folder("boot").items() if name.startswith("initrd.img-")).read_bytes()
    for maker in (b"AuthenticAMD", b"GenuineIntel"):
        assert b"kernel/x86/microcode/" + maker + b".bin" in initrd


def test_modules_that_lag_behind_the_kernel_are_one_line(served, tmp_path):
    run = Run(tmp_path, *served, archive="lagging/ubuntu")
    status, printed = run.make("lock")
    assert status != 0
    (error,) = [line for line in printed.splitlines() if line.startswith("Error")]
    assert "an image has one kernel" in error
    assert "linux-modules-nvidia-580-open-generic" in error
    assert not (run.checkout / f"locks/{TARGET}/apt.lock").exists()
    shutil.rmtree(run.cache)
