"""The blocks marked `image` run as they are written, as vaultadmin, in the tree of the built image.

A pillar fragment that a page shows before a block is written to pillar/local.sls of the box, as the page says.
"""

import os

import pytest
import shell
import yaml
from base_tree import built, chosen_workspace, output_in
from blocks import all_blocks, marked

from vault_cube.image.cache import keys
from vault_cube.image.layers import chroot
from vault_cube.settings import Settings

TARGET = os.environ.get("VAULT_CUBE_TARGET", "debian-12")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]

PAGES = sorted({block.page for block in marked("image")})
LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"
LEFT_OUT = ("gpu.benchmark", "gpu.monitor", "docker run")
"""Commands that take an hour, wait for a key, or need a running Docker."""
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
SHELL = 'ip link set lo up; exec runuser -u vaultadmin -- env HOME=/home/vaultadmin bash "$1"'


@pytest.fixture
def tree(tmp_path):
    """tree(script) runs a script as vaultadmin in the tree of the image; changes last until the end of the test."""
    space = chosen_workspace(TARGET)
    trees = built(space)
    if set(trees) != set(keys.ORDER):
        pytest.skip(f"{TARGET}: the layers are not built: run `make image TARGET={TARGET}`")
    for name in ("upper", "work", "merged", "scripts"):
        (tmp_path / name).mkdir()
    chroot.block_daemons(tmp_path / "upper")

    def run(script):
        (tmp_path / "scripts/script").write_text(script)
        log, words = tmp_path / "log", ["sh", "-c", SHELL, "sh", "/run/scripts/script"]
        log.unlink(missing_ok=True)
        chroot.run(
            chroot.Overlay([trees[name] for name in keys.ORDER], tmp_path / "upper", tmp_path / "work"), words,
            what="a block", log=log, mountpoint=tmp_path / "merged", check=False,
            binds=[chroot.Bind(tmp_path / "scripts", "/run/scripts")],
        )  # fmt: skip
        return output_in(log, words)

    return run


def skipped(command):
    return shell.of_ci(command) or any(words in command.text for words in LEFT_OUT)


def needs_systemd(command):
    """No systemd runs in a tree, so `disable --now` disables a unit but cannot stop it."""
    return command.text.startswith("sudo systemctl ") and "--now" in command.text


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_as_written_on_a_box(page, tree):
    fragment = ""
    for block in (block for block in all_blocks() if block.page == page):
        if block.language == "yaml" and set(yaml.safe_load(block.text)) <= set(Settings.model_fields):
            fragment = block.text.replace("AAAA…", KEY)
        elif block.mark == "image":
            if fragment:
                tree(f"sudo tee {LOCAL} <<'END'\n{fragment}\nEND\n")
            shell.run([block], tree, skipped=skipped, any_status=needs_systemd)


def test_what_is_left_out_is_in_the_pages():
    commands = [command.text for block in marked("image") for command in block.commands]
    assert [words for words in LEFT_OUT if not any(words in command for command in commands)] == []
