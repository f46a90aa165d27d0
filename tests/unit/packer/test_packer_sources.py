"""Packer's files, checked by the installed Packer, and the two programs that its sources run."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
packer = pytest.mark.skipif(
    not shutil.which("packer"), reason="Packer is not installed: this machine's archive may not have it"
)


def run(*words, **options):
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", **options.pop("env", {})}
    return subprocess.run(words, capture_output=True, text=True, cwd=TOP, env=environment, check=False, **options)


@packer
def test_all_sources_validate_without_variables():
    done = run("packer", "validate", "packer/")
    assert done.returncode == 0, done.stdout + done.stderr


@packer
def test_the_image_is_built_from_one_file_that_needs_no_plugin():
    done = run("packer", "validate", "packer/demo-box.pkr.hcl")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (TOP / "packer/demo-box.pkr.hcl").read_text()
    # recent versions of Packer include only these two
    assert set(re.findall(r'^source "(\S+)"', text, re.M)) == {"null"}
    assert set(re.findall(r'provisioner "(\S+)"', text)) == {"shell-local"}


@packer
@pytest.mark.parametrize("source", ["vm", "bare_metal"])
def test_a_source_can_be_selected_by_its_name(source):
    shown = run("packer", "inspect", "packer/").stdout
    assert f"> {source}:" in shown


@packer
def test_an_unknown_variable_is_an_error():
    assert run("packer", "validate", "-var", "no_such=1", "packer/").returncode != 0


@packer
def test_the_files_are_formatted_by_packer_fmt():
    done = run("packer", "fmt", "-check", "packer/")
    assert done.returncode == 0, done.stdout


def test_plugins_are_declared_in_a_subfolder():
    # Packer 1.6 rejects required_plugins; it does not read subfolders
    declaring = [file for file in (TOP / "packer").rglob("*.hcl") if "required_plugins {" in file.read_text()]
    assert declaring == [TOP / "packer/plugins/plugins.pkr.hcl"]


def test_the_guests_ssh_is_forwarded_on_loopback_only():
    forwards = [line for line in (TOP / "packer/vm.pkr.hcl").read_text().splitlines() if "hostfwd" in line]
    assert len(forwards) == 1
    assert "hostfwd=tcp:127.0.0.1:" in forwards[0]


@pytest.fixture
def archive(tmp_path):
    file = tmp_path / "checkout.tar.gz"
    done = run(sys.executable, "-m", "vault_cube.carried", str(file), "debian-12")
    assert done.returncode == 0, done.stderr
    return file


def test_the_archive_has_the_files_that_a_box_needs_and_no_others(archive):
    with tarfile.open(archive) as packed:
        names = packed.getnames()
        assert all(member.uid == 0 for member in packed)
    assert {"pillar/box.sls", "conf/common.conf", "vault_cube/errors.py", "locks/debian-12/python-salt.lock"} <= set(
        names
    )
    assert {f"docs/runbooks/{file.name}" for file in (TOP / "docs/runbooks").iterdir()} <= set(names)
    assert [name for name in names if name.startswith("pillar/targets/")] == ["pillar/targets/debian-12.sls"]
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git", "tests", "dist", "build"))]


def test_an_archive_for_an_unknown_target_is_an_error(tmp_path):
    done = run(sys.executable, "-m", "vault_cube.carried", str(tmp_path / "x"), "debian-99")
    assert done.returncode != 0
    assert done.stderr == "debian-99: no such target in pillar/targets/\n"
    assert not (tmp_path / "x").exists()


@pytest.fixture
def machine(tmp_path, archive):
    """A folder that stands for the machine, with an old checkout and a salt-call that records its arguments."""
    salt = tmp_path / "salt/bin/salt-call"
    salt.parent.mkdir(parents=True)
    salt.write_text(f'#!/bin/sh\necho "$PWD $*" >>{tmp_path}/called\ncase "$*" in *runtime) exit 2 ;; esac\n')
    salt.chmod(0o755)
    (tmp_path / "box").mkdir()
    (tmp_path / "box/of-yesterday").touch()

    def apply(layers, target="debian-12"):
        where = {"ARCHIVE": str(archive), "SALT": str(tmp_path / "salt"), "CHECKOUT": str(tmp_path / "box")}
        return run("sh", "-eu", "packer/apply.sh", env={**where, "TARGET": target, "LAYERS": layers})

    return apply


def test_applying_replaces_the_checkout_and_applies_each_layer(machine, tmp_path):
    done = machine("base driver")
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in called] == ["base", "driver"]
    assert all(line.startswith(f"{tmp_path}/box --local") and "--retcode-passthrough" in line for line in called)
    assert (tmp_path / "box/pillar/box.sls").exists()
    assert not (tmp_path / "box/of-yesterday").exists()
    assert sorted(path.name for path in tmp_path.glob("box*")) == ["box"]


def test_a_failed_layer_stops_the_rest(machine, tmp_path):
    assert machine("base runtime validation").returncode == 2
    assert "validation" not in (tmp_path / "called").read_text()


def test_a_wrong_target_leaves_the_old_checkout(machine, tmp_path):
    done = machine("base", target="debian-99")
    assert done.returncode == 1
    assert "debian-99: no such target" in done.stderr
    assert (tmp_path / "box/of-yesterday").exists()
    assert not (tmp_path / "called").exists()
    assert sorted(path.name for path in tmp_path.glob("box*")) == ["box"]
