"""Make a flat apt repository of stored packages, from which apt installs exactly the locked ones without a network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vault_cube import process
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.store import Store


def make(store: Store, debs: Sequence[Deb], folder: Path, codename: str) -> None:
    """Make a repository of `debs` in a new folder; each file is verified when it is linked from the store.

    Raises CommandFailed if dpkg-deb cannot read a package.
    """
    store.link([(deb.sha256, deb.filename) for deb in debs], folder)

    def stanza(deb: Deb) -> str:
        control = process.run(["dpkg-deb", "--field", folder / deb.filename], purpose=deb.filename).stdout
        return f"{control.rstrip()}\nFilename: ./{deb.filename}\nSize: {deb.size}\nSHA256: {deb.sha256}\n"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        packages = "\n".join(pool.map(stanza, debs)).encode()
    (folder / "Packages").write_bytes(packages)
    # without Suite and Codename, mmdebstrap finds no essential packages in this repository
    (folder / "Release").write_text(
        f"Origin: vault-cube\nLabel: vault-cube\nSuite: {codename}\nCodename: {codename}\n"
        "Date: Thu, 01 Jan 1970 00:00:00 UTC\nArchitectures: amd64 all\nComponents: main\nSHA256:\n"
        f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )
