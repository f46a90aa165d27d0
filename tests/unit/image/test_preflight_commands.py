"""What this machine itself must have is told before the build, also what only its end needs."""

import shutil

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight


@pytest.mark.parametrize(
    ("missing", "install"), [("ssh-keygen", "openssh-client"), ("mmdebstrap", "mmdebstrap"), ("setpriv", "util-linux")]
)
def test_a_missing_command_is_told_by_its_package(workspace, monkeypatch, missing, install):
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **options: None if name == missing else found("sh", **options))
    with pytest.raises(VaultCubeError, match=f"apt-get install {install}$"):
        preflight.has_commands(workspace())
