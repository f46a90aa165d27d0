"""What this machine itself must have is told before the build, also what only its end needs."""

import re
import shutil
from pathlib import Path

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight

TOP = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("missing", "install"),
    [("ssh-keygen", "openssh-client"), ("ip", "iproute2"), ("mmdebstrap", "mmdebstrap"), ("setpriv", "util-linux")],
)
def test_a_missing_command_is_told_by_its_package(workspace, monkeypatch, missing, install):
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **options: None if name == missing else found("sh", **options))
    with pytest.raises(VaultCubeError, match=f"apt-get install {install}$"):
        preflight.has_commands(workspace())


def test_make_installs_what_preflight_asks_for():
    """The Makefile's list, which a bundle carries, and the one of `make image`."""
    asked = set(preflight.COMMANDS.values()) - {"apt", "dpkg", "util-linux"}  # essential
    assert asked == set(re.search(r"^BUILDER := (.*)$", (TOP / "Makefile").read_text(), re.M)[1].split())
    assert asked == set(re.search(r"^scripts/apt.sh (.*)$", (TOP / "scripts/image.sh").read_text(), re.M)[1].split())
