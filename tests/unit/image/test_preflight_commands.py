"""Missing commands are reported before the build, including those that only its last step needs."""

import re
import shutil
from pathlib import Path

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight

TOP = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("missing", "install"),
    [("ssh-keygen", "openssh-client"), ("ip", "iproute2"), ("mmdebstrap", "mmdebstrap"), ("mount", "mount")],
)
def test_a_missing_command_is_reported_with_its_package(workspace, monkeypatch, missing, install):
    real_which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, **options: None if name == missing else real_which("sh", **options)
    )
    with pytest.raises(VaultCubeError, match=f"apt-get install {install}$"):
        preflight.has_commands(preflight.Builder(workspace()))


def test_make_installs_the_packages_that_preflight_checks():
    """Compare with the list in the Makefile, which `make image` installs and a bundle contains."""
    packages = set(preflight.COMMANDS.values()) - {"apt", "dpkg", "util-linux"}  # essential
    assert packages == set(re.search(r"^export BUILDER := (.*)$", (TOP / "Makefile").read_text(), re.M)[1].split())
