"""The seed: what cloud-init reads from it, and that nothing of it stays."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import seed


def test_a_seed_lets_one_new_key_in_for_one_user():
    with seed.seed("operator", 22) as one, seed.seed("operator", 22) as two:
        data = yaml.safe_load((one.folder / "user-data").read_text())
        public = one.key.with_suffix(".pub").read_text().strip()
        assert data == {"users": [{"name": "operator", "ssh_authorized_keys": [public]}]}
        assert (one.folder / "user-data").read_text().startswith("#cloud-config\n")
        assert public.startswith("ssh-ed25519 ")
        assert public != two.key.with_suffix(".pub").read_text().strip()
        instances = {json.loads((each.folder / "meta-data").read_text())["instance-id"] for each in (one, two)}
        assert len(instances) == 2


def test_the_guest_sees_the_public_half_only():
    with seed.seed("operator", 22) as made:
        seen = "".join(file.read_text() for file in made.folder.iterdir())
        assert "PRIVATE" not in seen
        assert {file.name for file in made.folder.iterdir()} == {"meta-data", "user-data"}
        assert made.key.stat().st_mode & 0o077 == 0


def test_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(seed.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError), seed.seed("operator", 22) as made:
        raise RuntimeError
    assert not made.key.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_removes_what_a_killed_one_left(tmp_path, monkeypatch):
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


def test_no_ssh_keygen_is_said_in_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(VaultCubeError, match=r"^ssh-keygen is missing: install openssh-client$"), seed.seed("x", 22):
        pass


def test_nothing_the_image_decides_stands_in_a_seed():
    # a host name or a network from here would be drift on the first state.apply
    text = "".join(seed.files("operator", "ssh-ed25519 AAAA").values())
    assert not {"hostname", "network", "passwd", "sudo"} & set(text.replace('"', " ").replace("-", " ").split())
    assert "/" not in text
