"""Packages and accounts of a damaged machine without a network, with the real dpkg, apt and passwd.

The machine is a copy-on-write view of the one that runs the tests.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from copied import TOP

TREE = """\
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mkdir -p ".$2" ".$3"
mount --rbind "$2" ".$2"
mount --rbind "$3" ".$3"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs tmp 2>/dev/null
case $2 in /tmp/*) mkdir -p ".$2"; mount --rbind "$2" ".$2" ;; esac
case $3 in /tmp/*) mkdir -p ".$3"; mount --rbind "$3" ".$3" ;; esac
# no archive, as on a box without a network
rm -rf etc/apt/sources.list etc/apt/sources.list.d etc/apt/mirrors var/lib/apt/lists
mkdir -p etc/apt/sources.list.d var/lib/apt/lists/partial
exec chroot . "$4" -B "$2/tests/functional/_states/damaged.py" "$5" "$3/supplies" "$3/apt.lock"
"""


@pytest.fixture
def damaged(tmp_path):
    """damaged(scenario) runs a scenario of damaged.py. Returns the states' results."""
    if os.geteuid() or not shutil.which("dpkg-deb"):
        pytest.skip("needs root and dpkg-deb")
    debs = tmp_path / "given/supplies/debs"
    debs.mkdir(parents=True)
    stanzas, lock = [], []
    for name in ("tiny-a", "tiny-b"):
        control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
        folder = tmp_path / name
        (folder / "DEBIAN").mkdir(parents=True)
        (folder / "DEBIAN/control").write_text(control)
        file = debs / f"{name}_1.0_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", folder, file], check=True, capture_output=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        stanzas.append(f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n")
        lock.append(f"base {name} 1.0 all x x {file.stat().st_size} {digest} pool/{file.name}\n")
    (debs / "Packages").write_text("\n".join(stanzas))
    (tmp_path / "given/apt.lock").write_text("".join(lock))
    (tmp_path / "tree").mkdir()

    def run(scenario):
        words = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-euc", TREE, "sh"]
        ran = subprocess.run(
            [*words, tmp_path / "tree", TOP, tmp_path / "given", Path(sys.executable), scenario],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    return run


def test_a_missing_package_is_installed_from_the_supplies(damaged):
    planned, ran, again = damaged("missing")
    assert (planned["result"], list(planned["changes"])) == (None, ["tiny-a"])
    assert (ran["result"], list(ran["changes"])) == (True, ["tiny-a"]), ran["comment"]
    assert (again["result"], again["changes"]) == (True, {})


def test_what_can_be_had_is_installed_and_the_rest_is_named_with_the_remedy(damaged):
    ran, again = damaged("one_cannot_be_had")
    assert (ran["result"], set(ran["changes"])) == (False, {"tiny-a", "tiny-b"})
    assert ran["comment"].startswith("not installed: no-such-package: Unable to locate package no-such-package")
    assert ran["comment"].endswith("(`image.supplies`), then `sudo salt-call --local state.apply`")
    assert again["changes"] == {}


@pytest.mark.parametrize("scenario", ["not_in_the_lock", "altered_supplies"])
def test_only_the_files_of_the_lock_are_installed_from_the_supplies(damaged, scenario):
    ran = damaged(scenario)[0]
    assert (ran["result"], ran["changes"]) == (False, {})
    assert "\n" not in ran["comment"]


def test_broken_lists_do_not_keep_a_package_from_being_installed(damaged):
    (ran,) = damaged("broken_lists")
    assert (ran["result"], list(ran["changes"])) == (True, ["tiny-a"]), ran["comment"]


def test_an_interrupted_installation_is_finished(damaged):
    planned, ran, again = damaged("unfinished")
    assert (planned["result"], planned["changes"]) == (None, {"tiny-a": {"old": "unfinished", "new": "installed"}})
    assert (ran["result"], list(ran["changes"])) == (True, ["tiny-a"])
    assert (again["result"], again["changes"]) == (True, {})


def test_a_password_and_an_expiry_are_removed(damaged):
    planned, ran, again, shadow = damaged("account")
    wrong = {"password", "password change", "password age", "inactivity", "expiry"}
    assert (planned["result"], set(planned["changes"])) == (None, wrong)
    assert (ran["result"], set(ran["changes"])) == (True, wrong)
    assert (again["result"], again["changes"]) == (True, {})
    _, password, changed, _, maximum, _, inactive, expires, _ = shadow["comment"].split(":")
    assert (password, maximum, inactive, expires) == ("!", "99999", "", "")
    assert int(changed) > 20000


@pytest.mark.parametrize("scenario", ["half_installed", "half_installed_and_wanted"])
def test_a_package_that_was_being_unpacked_is_unpacked_again_from_the_supplies(damaged, scenario):
    ran, again = damaged(scenario)
    assert ran["result"] is True, ran["comment"]
    assert (again["result"], again["changes"]) == (True, {})


def test_without_an_archive_it_is_named_in_one_line_and_repaired_later(damaged):
    broken, ran, again = damaged("half_installed_without_supplies")
    assert broken["result"] is False
    assert "tiny-a" in broken["comment"]
    assert len(broken["comment"].splitlines()) == 1
    assert ran["result"] is True, ran["comment"]
    assert (again["result"], again["changes"]) == (True, {})
