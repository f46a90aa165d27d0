"""The NoCloud seed that lets one throw-away key into a guest, for as long as the guest runs.

A seed is a folder. QEMU shows it to the guest as a FAT disk labelled CIDATA, so that no image file of it is ever made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vault_cube.errors import VaultCubeError

LABEL = "CIDATA"


@dataclass(frozen=True)
class Seed:
    """A seed's folder, and the way into the guest that it opens."""

    folder: Path
    """meta-data and user-data, what the guest sees"""
    key: Path
    """the private key; it lies outside the folder"""
    user: str
    port: int
    """where the guest's sshd listens"""


@contextmanager
def vanishing(kind: str) -> Iterator[Path]:
    """A private folder that is gone afterwards; what a killed process left of this kind goes first.

    It lies in the system's temporary folder, for the sockets in it need a short path.
    """
    prefix = f"vault-cube-{kind}-"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        owner = old.name.removeprefix(prefix).partition("-")[0]
        with suppress(FileNotFoundError):  # another one sweeps, too
            if old.stat().st_uid == os.getuid() and not Path("/proc", owner).exists():
                shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-") as folder:
        yield Path(folder)


@contextmanager
def seed(user: str, port: int) -> Iterator[Seed]:
    """A seed with a new ed25519 key for one user; key and folder are gone afterwards.

    user: the pillar's. port: of the guest's sshd.

    Raises VaultCubeError when there is no ssh-keygen.
    """
    if not shutil.which("ssh-keygen"):
        raise VaultCubeError("ssh-keygen is missing: install openssh-client")
    with vanishing("seed") as work:
        key, folder = work / "key", work / "seed"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vault-cube throw-away", "-f", str(key)],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        folder.mkdir()
        for name, text in files(user, key.with_suffix(".pub").read_text().strip()).items():
            (folder / name).write_text(text)
        yield Seed(folder, key, user, port)


def files(user: str, public_key: str) -> dict[str, str]:
    """What a NoCloud seed holds, by file name.

    No host name and no network stand in it: those are the image's own, and a guest that was given others had drifted
    before anybody looked. The user is there already, cloud-init only adds the key.
    https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
    """
    # YAML reads JSON
    data = {"users": [{"name": user, "ssh_authorized_keys": [public_key]}]}
    return {
        "meta-data": json.dumps({"instance-id": f"vault-cube-{uuid.uuid4()}"}) + "\n",
        "user-data": "#cloud-config\n" + json.dumps(data, indent=1) + "\n",
    }
