"""The NoCloud seed that adds a temporary ssh key to a guest.

A seed is a folder. QEMU presents it to the guest as a FAT disk with the label CIDATA, so no image file is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vault_cube import process

LABEL = "CIDATA"


@dataclass(frozen=True)
class Seed:
    """A seed's folder, and the login that it enables."""

    folder: Path
    """Folder with meta-data and user-data, which the guest can read."""
    key: Path
    """Private key, outside the folder."""
    user: str
    port: int
    """Port of the guest's sshd."""


@contextmanager
def vanishing(kind: str) -> Iterator[Path]:
    """Create a private folder and remove it at the end of the block; remove those of killed processes first.

    kind: part of the folder's name; only folders of the same kind are removed.
    The folder is in the system's temporary folder, because the sockets in it need a short path.
    """
    prefix = f"vault-cube-{kind}-"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        owner = old.name.removeprefix(prefix).partition("-")[0]
        with suppress(FileNotFoundError):  # another process may remove it at the same time
            if old.stat().st_uid == os.getuid() and not Path("/proc", owner).exists():
                shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-") as folder:
        yield Path(folder)


@contextmanager
def seed(user: str, port: int) -> Iterator[Seed]:
    """Create a seed with a new ed25519 key for one user, and remove both at the end of the block.

    user: an account of the image. port: port of the guest's sshd.
    Raises VaultCubeError if ssh-keygen is missing.
    """
    process.required("ssh-keygen", "openssh-client")
    with vanishing("seed") as work:
        key, folder = work / "key", work / "seed"
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vault-cube throw-away", "-f", key])
        folder.mkdir()
        for name, text in files(user, key.with_suffix(".pub").read_text().strip()).items():
            (folder / name).write_text(text)
        yield Seed(folder, key, user, port)


def files(user: str, public_key: str) -> dict[str, str]:
    """Return the files of a NoCloud seed: name to content.

    The user exists in the image; cloud-init only adds the key. Most people write this form, with `default`.
    https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
    """
    # JSON is valid YAML
    data = {"users": ["default", {"name": user, "ssh_authorized_keys": [public_key]}]}
    return {
        "meta-data": json.dumps({"instance-id": f"vault-cube-{uuid.uuid4()}"}) + "\n",
        "user-data": "#cloud-config\n" + json.dumps(data, indent=1) + "\n",
    }
