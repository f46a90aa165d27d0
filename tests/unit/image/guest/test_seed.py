"""The seed: its content for cloud-init, and its removal."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import seed


def test_a_seed_has_one_new_key_for_one_user():
    with seed.seed("operator", 22) as first, seed.seed("operator", 22) as second:
        data = yaml.safe_load((first.folder / "user-data").read_text())
        public = first.key.with_suffix(".pub").read_text().strip()
        assert data == {"users": ["default", {"name": "operator", "ssh_authorized_keys": [public]}]}
        assert (first.folder / "user-data").read_text().startswith("#cloud-config\n")
        assert public.startswith("ssh-ed25519 ")
        assert public != second.key.with_suffix(".pub").read_text().strip()
        instances = {json.loads((each.folder / "meta-data").read_text())["instance-id"] for each in (first, second)}
        assert len(instances) == 2


def test_the_guest_can_read_the_public_key_only():
    with seed.seed("operator", 22) as login:
        content = "".join(file.read_text() for file in login.folder.iterdir())
        assert "PRIVATE" not in content
        assert {file.name for file in login.folder.iterdir()} == {"meta-data", "user-data"}
        assert login.key.stat().st_mode & 0o077 == 0


def test_the_seed_is_removed_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(seed.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError), seed.seed("operator", 22) as login:
        raise RuntimeError
    assert not login.key.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_removes_the_seed_of_a_killed_process(tmp_path, monkeypatch):
    monkeypatch.setattr(seed.tempfile, "tempdir", str(tmp_path))
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    left = tmp_path / f"vault-cube-seed-{dead.stdout.strip()}-abc"
    living = tmp_path / f"vault-cube-seed-{os.getpid()}-abc"
    for folder in (left, living):
        folder.mkdir()
        (folder / "key").write_text("private")
    with seed.seed("operator", 22):
        assert not left.exists()
        assert living.exists()


def test_a_missing_ssh_keygen_is_reported_in_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(VaultCubeError, match=r"^ssh-keygen is missing: install openssh-client$"), seed.seed("x", 22):
        pass


def test_a_seed_sets_nothing_that_the_image_sets():
    # a host name or a network in the seed would be drift at the first state.apply
    text = "".join(seed.files("operator", "ssh-ed25519 AAAA").values())
    assert not {"hostname", "network", "passwd", "sudo"} & set(text.replace('"', " ").replace("-", " ").split())
    assert "/" not in text
