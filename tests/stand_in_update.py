"""A stand-in for a security update: newer versions of packages that a box has, in a signed archive.

As a program it runs on the box, as root: it packs the newer versions, and prints the archive's Release file.

usage: stand_in_update.py FOLDER PACKAGE...
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

SUITE = "bookworm-security"
SCRIPT = Path(__file__).read_text() if Path(__file__).is_file() else ""
KEYRING, SOURCE = "/etc/apt/keyrings/stand-in.gpg", "/etc/apt/sources.list.d/stand-in.list"
PORT = 8099
SERVED = f"""\
for n in $(seq 120); do
  curl -so /dev/null http://127.0.0.1:{PORT}/ && break
  sleep 0.5
done
"""
"""Shell script that waits for the server of the archive."""
LOCAL = f"""\
validation:
  drift:
    expected: {{{KEYRING}: stand-in, {SOURCE}: stand-in}}
"""
"""The owner's pillar, which names the files that the stand-in needs."""


def made(folder, packages):
    """Return a shell script that makes the archive in a folder of the box."""
    script = f"mkdir -p {folder}\ncat > {folder}/make.py <<'END'\n{SCRIPT}\nEND\n"
    return f"{script}python3 {folder}/make.py {folder} {' '.join(packages)}"


def signed(release, home):
    """Sign a Release file with a new key. home: an empty folder. Returns InRelease, and the key in base64."""
    (home / "Release").write_text(release + "\n")
    options = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
    subprocess.run([*options, "--quick-gen-key", "stand-in", "rsa3072", "sign", "1y"], check=True, capture_output=True)
    try:
        subprocess.run([*options, "--clearsign", home / "Release"], check=True, capture_output=True)
        key = subprocess.run([*options, "--export"], check=True, capture_output=True).stdout
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
    return (home / "Release.asc").read_text(), base64.encodebytes(key).decode()


def added(folder, inrelease, key):
    """Return a shell script that adds the signed archive to the box's sources."""
    return f"""\
mkdir -p /etc/apt/keyrings
base64 --decode > {KEYRING} <<'END'
{key}END
cat > {folder}/www/dists/{SUITE}/InRelease <<'END'
{inrelease}END
echo 'deb [signed-by={KEYRING}] http://127.0.0.1:{PORT} {SUITE} main' > {SOURCE}
cat > /opt/vault-cube/checkout/pillar/local.sls <<'END'
{LOCAL}END
"""


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
        # /bin and its like are links to folders
        if not path.is_dir() and os.path.lexists(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    for part in ("conffiles", "preinst", "postinst", "prerm", "postrm", "triggers"):
        file = Path("/var/lib/dpkg/info") / f"{name}.{part}"
        if file.exists():
            shutil.copy2(file, tree / "DEBIAN" / part)
    document = tree / f"usr/share/doc/{name}/changelog.stand-in"
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(f"{name} {version}: the stand-in of a security update\n")
    # Debian 12 has nano in /bin
    program = next(file for file in (tree / f"usr/bin/{name}", tree / f"bin/{name}") if file.is_file())
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
