"""Minimal trees of Debian, with only what a new container has, in which the commands of the pages run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from blocks import TOP

SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
FOLDER = TOP / "build/bare"
"""The trees as archives. They are made once, by mmdebstrap from the mirror that apt of this machine uses."""

ENTER = """
set -e
tree=$1 repository=$2 cache_size=$3
shift 3
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount --rbind /sys "$tree/sys"
mkdir -p "$tree/repository" "$tree/var/cache/vault-cube"
mount --bind "$repository" "$tree/repository"
mount -t tmpfs -o "size=$cache_size" tmpfs "$tree/var/cache/vault-cube"
exec chroot "$tree" "$@"
"""


def archive(target: str) -> Path:
    """Return the archive of a minimal tree; it is made if it is missing, which takes a minute."""
    file = FOLDER / f"{target}.tar"
    if not file.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new.tar")
        subprocess.run(["mmdebstrap", "--variant=minbase", SUITES[target], new, mirror()], check=True)
        new.rename(file)
    return file


def mirror() -> str:
    """Return the mirror of Debian that apt of this machine uses. Raises LookupError if it has none."""
    policy = subprocess.run(["apt-cache", "policy"], capture_output=True, text=True, check=False).stdout
    urls = [words[1] for line in policy.splitlines() if len(words := line.split()) > 2 and words[1].startswith("http")]
    for url in urls:
        if "debian" in url and "security" not in url:
            return url
    raise LookupError("apt of this machine has no mirror of Debian: add one to /etc/apt/sources.list")


class Bare:
    """A minimal tree. `company`: the file of certificates that this machine needs to reach an index, or None."""

    def __init__(self, target: str, folder: Path) -> None:
        self.tree = folder / "tree"
        self.tree.mkdir()
        subprocess.run(["tar", "-xf", archive(target), "-C", self.tree], check=True)
        shutil.copy("/etc/resolv.conf", self.tree / "etc/resolv.conf")
        # a clone of this checkout, as a server would offer it
        self.repository = folder / "repository"
        subprocess.run(["git", "clone", "--quiet", "--bare", TOP, self.repository], check=True)
        certificates = next((os.environ[name] for name in ("PIP_CERT", "SSL_CERT_FILE") if os.environ.get(name)), None)
        self.company = None
        if certificates:
            shutil.copy(certificates, self.tree / "company.pem")
            self.company = "/company.pem"

    def run(self, script: str, *, user: str = "root", network: bool = True, settings: str = "") -> str:
        """Run a script with bash, or sh before bash is there, as a user of the tree. Returns stdout and stderr.

        settings: commands of sh before it.
        """
        (self.tree / "tmp/script").write_text(f"{settings}\n{script}")
        words = ["runuser", "-u", user, "--"] if user != "root" else []
        home = f"/home/{user}" if user != "root" else "/root"
        variables = [f"HOME={home}", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"]
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        command = ["unshare", *namespaces, "sh", "-c", ENTER, "sh", self.tree, self.repository, "10G"]
        ran = subprocess.run(
            [*command, *words, "env", "-i", *variables, "bash", "/tmp/script"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return ran.stdout
