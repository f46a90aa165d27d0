"""The master's releases and fingerprints."""

import subprocess
import tarfile
from pathlib import Path

import pytest
import salt.utils.crypt

from vault_cube.errors import VaultCubeError
from vault_cube.fleet import releases

TOP = Path(__file__).parents[3]


@pytest.fixture
def repository(tmp_path):
    top = tmp_path / "repository"
    (top / "salt").mkdir(parents=True)
    (top / "tests").mkdir()
    for name in ("salt/top.sls", "tests/test.py", "Saltfile"):
        (top / name).write_text(name)
    git = ["git", "-C", top, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *words], check=True)
    return top


def test_a_release_has_the_files_that_boxes_carry(repository, tmp_path):
    (repository / "salt/top.sls").write_text("not committed")
    commit, file = releases.make(repository, "HEAD", tmp_path)
    with tarfile.open(file) as tar:
        assert sorted(member.name for member in tar if member.isreg()) == ["Saltfile", "salt/top.sls"]
        assert tar.extractfile("salt/top.sls").read() == b"salt/top.sls"
    assert file.name == f"{commit}.tar"
    assert len(releases.sha256(file)) == 64


def test_a_release_is_made_once(repository, tmp_path):
    _, file = releases.make(repository, "HEAD", tmp_path)
    file.write_text("kept")
    assert releases.make(repository, "HEAD", tmp_path)[1].read_text() == "kept"


@pytest.mark.parametrize("commit", ["nonsense", "", "--help", "HEAD~5", "-n1"])
def test_no_such_commit(repository, tmp_path, commit):
    with pytest.raises(VaultCubeError, match="no such commit"):
        releases.make(repository, commit, tmp_path)
    assert not list(tmp_path.glob("*.tar"))


def test_a_machine_that_is_no_master(repository, tmp_path):
    with pytest.raises(VaultCubeError, match="make master"):
        releases.make(repository, "HEAD", tmp_path / "none")


@pytest.mark.parametrize("end", ["\n", "", "\n\n"])
def test_fingerprints_are_those_of_salt(tmp_path, end):
    key = "-----BEGIN PUBLIC KEY-----\nMIIBojANBgkq\nhkiG9w0BAQEF\n-----END PUBLIC KEY-----" + end
    file = tmp_path / "key.pub"
    file.write_text(key)
    assert releases.fingerprint(key) == salt.utils.crypt.pem_finger(str(file))


def test_the_lock_of_the_master_s_environment_is_complete():
    lines = (TOP / "locks/fleet.lock").read_text().splitlines()
    packages = [line.partition("==")[0] for line in lines if line[:1].isalnum()]
    assert {"salt", "salt-pepper", "cherrypy", "pydantic", "pygal"} <= set(packages)
    assert not [line for line in lines if line.startswith("-") or "://" in line]
    assert sum("--hash=sha256:" in line for line in lines) >= len(packages)
