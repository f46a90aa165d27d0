"""A full or read-only disk, broken package lists, a missing module: one clear line each, and one apply repairs all.

In the tree of a built image, with the box's own salt-call and its guard. Needs root.
"""

import json
import os
import re

import pytest
import test_layers_in_tree as in_tree

pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]
# the fixtures of that file
space, trees, inside = in_tree.space, in_tree.trees, in_tree.inside

SALT = "salt-call --local --log-level=quiet"
HARM = """\
echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/00-vault-cube.conf
rm /etc/sysctl.d/99-vault-cube.conf /etc/modprobe.d/vault-cube.conf /etc/systemd/journald.conf.d/zz-vault-cube.conf
rm -r /etc/vault-cube/monitoring
echo '{}' > /etc/docker/daemon.json
"""
# /etc on a file system of its own, with 60 MiB left
SMALL_ETC = """\
mkdir /run/small
mount -t tmpfs -o size=64m tmpfs /run/small
cp -a /etc /run/small/etc
mount --bind /run/small/etc /etc
"""
FILL = "head -c 100M /dev/zero > /etc/fill 2>/dev/null || :\n"
APPLY = f'{SALT} state.apply && status=0 || status=$?\necho "status $status"\n'
# after the cause is gone: one apply repairs all, the second finds nothing to do, and drift.report neither
REPAIR = f"""\
echo '=== repair'
{SALT} --out=json state.apply || :
echo '=== again'
{SALT} --out=json state.apply || :
echo '=== report'
{SALT} --out=json drift.report || :
"""
MISSING_MODULE = "/opt/vault-cube/checkout/_states/unit.py"
LISTS = "/var/lib/apt/lists"
BROKEN = f"{LISTS}/deb.example.org_debian_dists_x_main_binary-amd64_Packages"


@pytest.fixture
def run(inside):
    """run(script) runs a shell script in the tree. Returns the parts of its output, which `=== NAME` begins."""

    def call(script):
        _, output = inside(["sh", "-euc", script])
        parts = re.split(r"^=== (\w+)\n", output, flags=re.M)
        return {"fault": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}

    return call


def states(part):
    return json.loads(part[part.index("{") :])["local"].values()


def is_repaired(parts, changed):
    """All states of the first apply hold and those that were harmed changed; nothing is left for a second one."""
    first = states(parts["repair"])
    assert [state["comment"] for state in first if state["result"] is False] == []
    assert bool([state for state in first if state["changes"]]) is changed
    assert [
        state["__id__"] for state in states(parts["again"]) if state["changes"] or state["result"] is not True
    ] == []
    report = json.loads(parts["report"][parts["report"].index("{") :])["local"]
    assert report["findings"] == []


def is_one_line(text, words):
    """The output of a failed apply names the cause once, and is no traceback."""
    assert "Traceback" not in text
    assert text.count("Comment: ") == 1, text
    (line,) = [line for line in text.splitlines() if line.strip().startswith("Comment: ")]
    assert words in line


def test_a_full_disk(run):
    parts = run(f"{HARM}{SMALL_ETC}{FILL}{APPLY}echo === full\n{SALT} drift.report || :\nrm /etc/fill\n{REPAIR}")
    assert "status 1" in parts["fault"] or "status 2" in parts["fault"]
    is_one_line(parts["fault"], "/etc: the file system is full: make room, such as with `sudo apt-get clean`")
    assert "Traceback" not in parts["full"]
    assert "the file system is full" in parts["full"]
    is_repaired(parts, changed=True)


def test_a_disk_that_becomes_full_while_states_are_applied(run):
    # when the first state has changed something
    fill = f"(while [ ! -e /etc/sysctl.d/99-vault-cube.conf ]; do sleep 0.02; done; {FILL.strip()}) &\n"
    parts = run(f"{HARM}{SMALL_ETC}{fill}{APPLY}wait\nrm /etc/fill\n{REPAIR}")
    text = parts["fault"]
    assert "status 1" in text or "status 2" in text
    assert "Traceback" not in text, text[-3000:]
    is_repaired(parts, changed=True)


def test_a_read_only_root(run):
    # with a source, mount does not ask fstab
    read_only, writable = "mount -o remount,ro overlay /", "mount -o remount,rw overlay /"
    parts = run(f"{HARM}{read_only}\n{APPLY}echo === read\n{SALT} drift.report || :\n{writable}\n{REPAIR}")
    is_one_line(parts["fault"], "the file system is read-only: see `dmesg`")
    assert "Traceback" not in parts["read"]
    assert "the file system is read-only" in parts["read"]
    is_repaired(parts, changed=True)


def test_broken_lists_and_a_missing_package(run):
    """Without a network: the package is named, with the remedy, and everything else is repaired."""
    lose = "dpkg --purge --force-depends less >/dev/null 2>&1"
    parts = run(
        f"{HARM}mkdir -p {LISTS}\nprintf 'Package: x\\nnonsense\\n\\0' > {BROKEN}\n"
        "cp -a /var/lib/dpkg /run/dpkg\nmkdir /run/less\n"
        'for path in $(dpkg -L less); do [ -d "$path" ] || cp -a --parents "$path" /run/less; done\n'
        # the package comes back by other means, as from supplies
        f"{lose}\n{APPLY}cp -a /run/less/. /\nrm -rf /var/lib/dpkg\ncp -a /run/dpkg /var/lib/dpkg\n{REPAIR}"
    )
    failed = re.findall(r"Comment: (not installed: less: .*)", parts["fault"])
    assert len(failed) == 1, parts["fault"]
    assert "then `sudo salt-call --local state.apply`" in parts["fault"]
    assert re.search(r"^Failed: +1$", parts["fault"], re.M), parts["fault"]
    is_repaired(parts, changed=False)


def test_a_half_installed_package(run):
    half = "sed -i '/^Package: nano$/{n; s/ installed$/ half-configured/}' /var/lib/dpkg/status"
    parts = run(f"{HARM}{half}\n{REPAIR}")
    is_repaired(parts, changed=True)
    assert any("nano" in state["changes"] for state in states(parts["repair"]))


@pytest.mark.parametrize("path", [MISSING_MODULE, "/opt/vault-cube/checkout/vault_cube/repair/places.py"])
def test_a_missing_module_of_the_checkout(run, path):
    parts = run(f"{HARM}rm {path}\n{APPLY}/usr/lib/vault-cube/drift restore\n{REPAIR}")
    assert "Traceback" not in parts["fault"]
    assert (
        f"salt-call: refused: 1 files that Salt runs from are not as in the image:\n  {path}: missing" in parts["fault"]
    )
    assert "Restore the checkout with `/usr/lib/vault-cube/drift restore`" in parts["fault"]
    is_repaired(parts, changed=True)
