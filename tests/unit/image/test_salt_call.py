"""The checkout's salt-call finds its configuration from any folder, and writes only below the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import salt.config

from vault_cube import salt_call

TOP = Path(__file__).parents[3]
OUTSIDE = [Path(path) for path in ("/etc/salt", "/var/log/salt", "/var/cache/salt", "/var/run/salt", "/srv/salt")]


@pytest.fixture
def typed(checkout, tmp_path):
    """typed(*arguments) runs salt-call of a copy of the checkout in another folder. Returns exit code and lines."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()

    def run(*arguments):
        before = [path.exists() for path in OUTSIDE]
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "vault_cube.salt_call", *arguments],
            cwd=elsewhere, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "PYTHONPATH": str(checkout), "HOME": str(tmp_path / "home")},
        )  # fmt: skip
        assert [path.exists() for path in OUTSIDE] == before
        assert not (tmp_path / "home").exists()
        return ran.returncode, (ran.stdout + ran.stderr).splitlines()

    run.folder = elsewhere
    return run


def test_a_file_is_named_relative_to_the_current_folder(typed):
    (typed.folder / "box.qcow2").touch()
    status, lines = typed("image.check", "box.qcow2")
    assert status == 1
    assert lines == [
        "Error running 'image.check': box.qcow2: no SHA256SUMS in its folder lists it: copy the other files of dist/ "
        "too, with their names"
    ]
    assert [path.name for path in typed.folder.iterdir()] == ["box.qcow2"]


def test_a_saltfile_of_another_project_is_not_used(typed, checkout):
    (typed.folder / "Saltfile").write_text("salt-call: {config_dir: /nowhere}\n")
    (typed.folder / "yaml.py").write_text("raise ImportError('a file of the current folder')\n")
    status, lines = typed("image.why", "base")
    assert (status, lines) == (0, ["local:", "    - base: never built in this checkout"])
    assert {path.name for path in (checkout / ".salt").iterdir()} >= {"cache", "conf"}


@pytest.mark.parametrize(("arguments", "environment", "expected"), [
    (["image.check"], {}, False),
    (["-c", "/x", "test.ping"], {}, True),
    (["--config-dir=/x", "test.ping"], {}, True),
    (["--saltfile=/x", "test.ping"], {}, True),
    (["test.ping"], {"SALT_SALTFILE": "/x"}, True),
    (["image.enter", "ls -c"], {}, False),
])  # fmt: skip
def test_a_named_configuration_is_used(tmp_path, monkeypatch, arguments, environment, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SALT_SALTFILE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert salt_call.configured(arguments) == expected


def test_in_a_checkout_its_own_files_are_used(monkeypatch):
    monkeypatch.chdir(TOP)
    assert salt_call.configured(["image.check"])


@pytest.mark.parametrize("name", ["plain", "with blank", "with [brackets]*", "with: colon, comma", "ümlaut"])
def test_salt_reads_absolute_paths_from_the_written_configuration(tmp_path, monkeypatch, name):
    top = tmp_path / name
    for folder in ("salt", "pillar"):
        (top / folder).mkdir(parents=True)
    for file in ("Saltfile", "conf/minion", "conf/common.conf"):
        (top / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / file, top / file)
    monkeypatch.chdir(tmp_path)
    saltfile = salt_call.write(top, top / ".salt")
    options = salt.config.minion_config(str(saltfile.with_name("minion")), cache_minion_id=False)
    assert [Path(root).resolve() for root in options["pillar_roots"]["base"]] == [top / "pillar"]
    assert [Path(root).resolve() for root in options["file_roots"]["base"]] == [top / "salt"]
    assert options["module_dirs"] == [str(top / "_modules")]
    assert options["cachedir"] == str(top / ".salt/cache")
    assert options["log_file"] == str(top / ".salt/log")
    # from common.conf
    assert options["file_client"] == "local"
    assert options["pillar_source_merging_strategy"] == "recurse"


NOBODY = 65534


@pytest.fixture
def sudo_checkout(tmp_path):
    """A checkout in which root has run salt-call."""
    top = tmp_path / "checkout"
    (top / ".salt/cache/roots").mkdir(parents=True)
    (top / ".salt/cache/roots/mtime_map").touch()
    for folder in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    return top


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("of_root", [".salt", ".salt/cache", ".salt/cache/roots/mtime_map"])
def test_another_user_gets_a_folder_of_their_own_for_salt_s_files(sudo_checkout, monkeypatch, of_root):
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/anna/.cache")
    for path in (sudo_checkout, *sudo_checkout.rglob("*")):
        if path != sudo_checkout / of_root:
            os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        folder = salt_call.scratch_folder(sudo_checkout)
        assert folder.parent == Path("/home/anna/.cache/vault-cube")
        assert not salt_call.configured(["test.ping"], own_scratch=folder == sudo_checkout / ".salt")
    finally:
        os.seteuid(0)
    # root itself uses the checkout's
    assert salt_call.scratch_folder(sudo_checkout) == sudo_checkout / ".salt"


def test_the_configuration_in_a_folder_of_the_user_names_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saltfile = salt_call.write(TOP, tmp_path / "salt-1")
    options = salt.config.minion_config(str(saltfile.with_name("minion")), cache_minion_id=False)
    assert options["vault_cube"] == {"target": "debian-12", "sources": str(TOP)}
    assert options["pillar_roots"] == {"base": [str(TOP / "pillar")]}
    for name in ("root_dir", "cachedir", "pki_dir", "log_file"):
        assert Path(options[name]).is_relative_to(tmp_path / "salt-1"), name


def test_an_unwritable_folder_is_one_line(tmp_path):
    top = tmp_path / "checkout"
    top.mkdir()
    for name in (".salt", "Saltfile"):
        (top / name).write_text("a file in the way")
    (top / "vault_cube").mkdir()
    for name in ("salt_call.py", "__init__.py"):
        shutil.copy(TOP / "vault_cube" / name, top / "vault_cube" / name)
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "vault_cube.salt_call", "test.ping"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(top), "XDG_CACHE_HOME": str(top / "Saltfile")},
    )  # fmt: skip
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"salt-call: cannot write {top}/Saltfile/vault-cube/salt-")
    assert line.endswith(" (Not a directory): set XDG_CACHE_HOME to a folder of your own")


def test_the_script_makes_salt_call_from_this_module():
    script = (TOP / "scripts/venv.sh").read_text()
    assert "-P -m vault_cube.salt_call" in script
    assert (TOP / ".venv/bin/salt-call").read_text().endswith('-P -m vault_cube.salt_call "$@"\n')
