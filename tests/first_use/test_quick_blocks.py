"""The blocks marked `quick` run as they are written: in a fresh clone, in a path with a blank, on a small image."""

import os
import shutil
import subprocess

import pytest
import shell
from blocks import TOP, marked
from small_image import NAME, make, space_in

from vault_cube.image import checkout
from vault_cube.image.attest import signature
from vault_cube.image.inspect import origin, statements

PAGES = sorted({block.page for block in marked("quick")})
BUILDERS = ("anna@example.org", "ben@example.com", "carla@example.net")


def fresh_clone(folder):
    """Copy the sources of the checkout as they are now, and give the copy the packages of its environment."""
    checkout.copy(TOP, folder)
    (folder / "pillar/local.sls").unlink(missing_ok=True)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "salt-call").write_text(
        f'#!/bin/sh\nPYTHONPATH="{folder}" exec {TOP}/.venv/bin/python -P -m vault_cube.salt_call "$@"\n'
    )
    (programs / "salt-call").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return fresh_clone(tmp_path_factory.mktemp("first use") / "vault-cube")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A folder with a small signed image, the public keys, and statements of two of three builders."""
    folder = tmp_path_factory.mktemp("image")
    file, sums = make(space_in(tmp_path_factory.mktemp("space")), folder)
    keys = {}
    for name in ("maintainer", *BUILDERS):
        keys[name] = tmp_path_factory.mktemp("keys") / name
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-C", name, "-f", keys[name]], check=True)
    signature.sign(sums, keys["maintainer"])
    shutil.copy(keys["maintainer"].with_suffix(".pub"), folder / "maintainer.pub")
    public = {name: keys[name].with_name(f"{name}.pub").read_text() for name in BUILDERS}
    width = max(map(len, BUILDERS))
    (folder / "builders").write_text(
        "".join(f'{name:<{width}} namespaces="vault-cube-reproduced" {public[name]}' for name in BUILDERS)
    )
    provenance = folder / f"{NAME}.provenance.json"
    for name in (BUILDERS[0], BUILDERS[2]):
        statements.write(provenance, origin.read(provenance), {"umask": "077"}, keys[name], folder)
    assert file.is_file()
    return folder


@pytest.fixture
def bundle(clone, tmp_path):
    """A small signed bundle in the clone's folder, and the signer in `allowed_signers`."""
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "Makefile").write_text("image:\n")
    subprocess.run(["tar", "-cf", clone / f"{NAME}.bundle.tar", "-C", tmp_path, NAME], check=True)
    sums = clone / f"{NAME}.bundle.SHA256SUMS"
    sums.write_text(subprocess.check_output(["sha256sum", f"{NAME}.bundle.tar"], cwd=clone, text=True))
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", key], check=True)
    signature.sign(sums, key)
    (clone / "allowed_signers").write_text(f"you@example.org {key.with_suffix('.pub').read_text()}")


# what each page needs: names of fixtures
NEEDS = {
    "docs/tutorial.md": (),
    "docs/demo-box-setup-guide.md": ("image",),
    "docs/how-to/trust.md": ("image",),
    "docs/how-to/air-gap.md": ("bundle",),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_quick_blocks_of_a_page_run_as_written(page, clone, tmp_path, request):
    assert page in NEEDS, f"{page}: this page has quick blocks: list in NEEDS what they need"
    for name in NEEDS[page]:
        folder = request.getfixturevalue(name)
        if folder:
            shutil.copytree(folder, clone / "dist", dirs_exist_ok=True)
            shutil.copytree(folder, clone, dirs_exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "VAULT_CUBE_CACHE": str(tmp_path / "cache")}
    shell.run(marked("quick", page), shell.bash(clone, environment), names={"NAME": NAME})
