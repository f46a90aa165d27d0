"""Damage a copy-on-write view of this machine, repair it, and print the states' results as JSON.

usage: damaged.py SCENARIO SUPPLIES LOCK
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[3]
sys.path.insert(0, str(TOP))
SCENARIO, SUPPLIES, LOCK = sys.argv[1:4]


def state(name, test=False):
    spec = importlib.util.spec_from_file_location(f"state_{name}", TOP / "_states" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"test": test}
    return module


def sh(script):
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False).stdout.strip()


def install(pkgs, test=False):
    return state("packages", test).installed("x", pkgs=pkgs, supplies=SUPPLIES, lock=LOCK)


def missing():
    return [install(["tiny-a", "bash"], test=True), install(["tiny-a", "bash"]), install(["tiny-a", "bash"])]


def one_cannot_be_had():
    return [install(["tiny-a", "no-such-package", "tiny-b"]), install(["tiny-a", "tiny-b"], test=True)]


def not_in_the_lock():
    Path(LOCK).write_text("")
    return [install(["tiny-a"]), install(["tiny-a"], test=True)]


def altered_supplies():
    file = next(Path(SUPPLIES).glob("debs/tiny-a*.deb"))
    file.write_bytes(file.read_bytes().replace(b"!<arch>", b"!<arch>", 1) + b"\0" * 60)
    return [install(["tiny-a"])]


def broken_lists():
    Path("/var/lib/apt/lists/broken.example_dists_x_main_binary-amd64_Packages").write_text("Package: x\nnonsense\n\0")
    Path("/etc/apt/sources.list").write_text("deb [trusted=yes] http://broken.example x main\n")
    return [install(["tiny-a"])]


def unfinished():
    install(["tiny-a"])
    status = Path("/var/lib/dpkg/status")
    text = status.read_text()
    begin = text.index("Package: tiny-a\n")
    status.write_text(text[:begin] + text[begin:].replace("install ok installed", "install ok unpacked", 1))
    return [install(["bash"], test=True), install(["bash"]), install(["bash"])]


def half_installed_status(name):
    """Install a package and record it as one that dpkg was unpacking when the power went."""
    install([name])
    status = Path("/var/lib/dpkg/status")
    text = status.read_text()
    begin = text.index(f"Package: {name}\n")
    damaged = text[begin:].replace("install ok installed", "install reinstreq half-installed", 1)
    status.write_text(text[:begin] + damaged)


def half_installed():
    half_installed_status("tiny-a")
    return [install(["bash"]), install(["bash"], test=True)]


def half_installed_and_wanted():
    half_installed_status("tiny-b")
    return [install(["tiny-a", "tiny-b"]), install(["tiny-a", "tiny-b"], test=True)]


def half_installed_without_supplies():
    half_installed_status("tiny-a")
    Path(SUPPLIES).rename(f"{SUPPLIES}.away")
    broken = install(["tiny-a"])
    Path(f"{SUPPLIES}.away").rename(SUPPLIES)
    return [broken, install(["tiny-a"]), install(["tiny-a"], test=True)]


def account():
    sh("useradd -m ada; usermod -p '$6$a$b' ada; chage -E 2020-01-01 -M 9 -I 3 -d 0 ada")
    before = state("account", test=True).without_password("ada")
    ran = state("account").without_password("ada")
    return [before, ran, state("account").without_password("ada"), {"comment": sh("grep ^ada: /etc/shadow")}]


os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
print(json.dumps(globals()[SCENARIO]()))
