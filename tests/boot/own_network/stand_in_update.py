"""Runs in the guest, as root: makes newer versions of installed packages, and an archive with them, not yet signed.

usage: stand_in_update.py FOLDER PACKAGE...   (prints the Release file)
"""

import hashlib
import shutil
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

SUITE = "bookworm-security"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def newer(name, work):
    """Pack an installed package as a newer version, with one changed file. Returns its stanza and its file."""
    version = output("dpkg-query", "--show", "--showformat=${Version}", name) + "+deb12u99"
    tree = work / name
    (tree / "DEBIAN").mkdir(parents=True)
    for line in output("dpkg-query", "--listfiles", name).splitlines():
        path = Path(line)
        target = tree / line.lstrip("/")
        if path.is_symlink() or path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    for part in ("conffiles", "preinst", "postinst", "prerm", "postrm", "triggers"):
        file = Path("/var/lib/dpkg/info") / f"{name}.{part}"
        if file.exists():
            shutil.copy2(file, tree / "DEBIAN" / part)
    document = tree / f"usr/share/doc/{name}/changelog.stand-in"
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(f"{name} {version}: the stand-in of a security update\n")
    program = tree / f"usr/bin/{name}"
    program.write_bytes(program.read_bytes() + b"\n")
    fields = ("Package", "Architecture", "Maintainer", "Depends", "Pre-Depends", "Priority", "Section")
    values = {field: output("dpkg-query", "--show", f"--showformat=${{{field}}}", name) for field in fields}
    control = "".join(f"{field}: {value}\n" for field, value in values.items() if value)
    control += f"Version: {version}\nDescription: stand-in\n"
    (tree / "DEBIAN/control").write_text(control)
    conffiles = (tree / "DEBIAN/conffiles").read_text().split() if (tree / "DEBIAN/conffiles").exists() else []
    files = [file for file in sorted(tree.rglob("*")) if file.is_file() and not file.is_symlink()]
    plain = [(file, str(file.relative_to(tree))) for file in files if "DEBIAN" not in file.relative_to(tree).parts]
    sums = [
        f"{hashlib.md5(file.read_bytes()).hexdigest()}  {path}\n" for file, path in plain if f"/{path}" not in conffiles
    ]
    (tree / "DEBIAN/md5sums").write_text("".join(sums))
    deb = work / f"{name}_{version}_{values['Architecture']}.deb"
    output("dpkg-deb", "--root-owner-group", "--build", str(tree), str(deb))
    return control, deb


def main(folder, names):
    work, pool, dist = folder / "work", folder / "www/pool", folder / "www/dists" / SUITE
    index = dist / "main/binary-amd64/Packages"
    for made in (work, pool, index.parent):
        made.mkdir(parents=True)
    stanzas = []
    for name in names:
        control, deb = newer(name, work)
        shutil.move(deb, pool)
        data = (pool / deb.name).read_bytes()
        sums = f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        stanzas.append(f"{control}Filename: pool/{deb.name}\n{sums}")
    index.write_text("\n".join(stanzas))
    data = index.read_bytes()
    print(
        f"Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nCodename: {SUITE}\n"
        f"Date: {formatdate(time.time() - 86400, usegmt=True)}\nArchitectures: amd64\nComponents: main\nSHA256:\n"
        f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages"
    )


main(Path(sys.argv[1]), sys.argv[2:])
