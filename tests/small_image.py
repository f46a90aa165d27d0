"""A small file with the attestations and checksums of an image, for tests of what is done with finished images."""

import shutil
import subprocess
from pathlib import Path

import pytest
from copied import chosen, merged

from vault_cube.image import store
from vault_cube.image.attest import attestations
from vault_cube.image.cache import keys
from vault_cube.image.inputs import Inputs, lock_digests
from vault_cube.image.locks import locktext, pylock
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.workspace import LAYERS, Workspace
from vault_cube.settings import check as check_settings

TOP = Path(__file__).parents[1]
NAME = "vault-cube-demo-box-1.0.0-debian-12"
DEBS = (
    Deb("root", "bash", "5.2.15-2+b7", "amd64", "bookworm", "debian", 1, "a" * 64, "pool/main/b/bash/bash.deb"),
    Deb("base", "sudo", "1.9.13p3-1+deb12u1", "amd64", "bookworm", "debian", 1, "b" * 64, "pool/main/s/sudo/sudo.deb"),
)
WHEEL = "numpy==2.1.0 --hash=sha256:{}  # numpy-2.1.0-cp311-cp311-manylinux_2_17_x86_64.whl 16000000\n"


@pytest.fixture
def space(tmp_path):
    return space_in(tmp_path)


def space_in(folder):
    """Make a committed checkout with locks of two packages and of one wheel in two environments."""
    checkout = folder / "checkout"
    locks = checkout / "locks/debian-12"
    locks.mkdir(parents=True)
    text = AptLock(1_700_000_000, DEBS).text()
    (locks / "apt.lock").write_text(text)
    (checkout / "locks/tools.lock").write_text(text)
    (checkout / "locks/checkout.lock").write_text("uv==1\n")
    for name in ("salt", "pytorch", "tensorflow", "vllm"):
        wheel = WHEEL.format("c" * 64) if name in ("pytorch", "vllm") else ""
        (locks / f"python-{name}.lock").write_text(locktext.closed(wheel))
    shutil.copytree(TOP / "vault_cube/image", checkout / "vault_cube/image")
    pillar = merged(*chosen("debian-12"))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", checkout]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    return Workspace(checkout, check_settings(pillar), pillar, cache=folder / "cache", store=folder / "store")


def inputs_of(space):
    """Read the locks of the small checkout, which has too few files for the keys of its layers."""
    names = ("salt", "pytorch", "tensorflow", "vllm")
    return Inputs(
        packages=AptLock.read(space.locks / "apt.lock"),
        tools=AptLock.read(space.tools_lock),
        wheels={name: pylock.read(space.locks / f"python-{name}.lock") for name in names},
        vendor_keys={},
        keys={layer: keys.Key(layer[0] * 64, {"parent": "t" * 64}) for layer in ("root", *LAYERS)},
        moved=[],
        digests=lock_digests(space),
    )


def make(space, folder, content=None):
    """Write a small image with its attestations and checksums to a folder, as the recipe does in dist/."""
    folder.mkdir(exist_ok=True)
    image = folder / f"{NAME}.qcow2"
    image.write_bytes(content or b"a small image" * 100)
    digests = {"raw": "d" * 64, image.name: store.sha256_of(image)}
    files = [image, *attestations.make(space, inputs_of(space), folder, name=NAME, digests=digests)]
    sums = folder / f"{NAME}.SHA256SUMS"
    sums.write_text("".join(f"{store.sha256_of(file)}  {file.name}\n" for file in files))
    return image, sums


@pytest.fixture
def key(tmp_path):
    """key(name) makes an ssh key with that comment in `key.folder`. Returns the file of its private half."""

    def new(name):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", tmp_path / name], check=True)
        return tmp_path / name

    new.folder = tmp_path
    return new
