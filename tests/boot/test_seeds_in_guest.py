"""Guests with two seeds.

One uses most keys of cloud-config: users, a password, names, a time zone, a static address; then drift. The other is a
message of several parts, one of them a script, with keys at the top only and a network-config of version 1.
"""

import json
import subprocess
from contextlib import contextmanager

import pytest

from vault_cube.image.guest.machine import guest
from vault_cube.image.guest.qemu import GUEST
from vault_cube.image.guest.seed import seed

pytestmark = pytest.mark.slow
NETWORK = f"""\
version: 2
ethernets:
  any:
    match: {{name: 'e*'}}
    addresses: [{GUEST}/24]
    routes: [{{to: default, via: 10.0.2.2}}]
    nameservers: {{addresses: [10.0.2.3]}}
"""
REFUSED = "users: ada: passwd: refused: no account has a password"


def user_data(key):
    ada = {"name": "ada", "ssh_authorized_keys": [key], "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash"}
    return {
        "users": ["default", {**ada, "passwd": "$6$salt$hash", "lock_passwd": False}],
        "ssh_authorized_keys": [key],
        "hostname": "box-7",
        "timezone": "Europe/Berlin",
    }


PARTS = """\
Content-Type: multipart/mixed; boundary="==BOUNDARY=="
MIME-Version: 1.0

--==BOUNDARY==
Content-Type: text/cloud-config; charset="us-ascii"
MIME-Version: 1.0
Content-Transfer-Encoding: 7bit
Content-Disposition: attachment; filename="keys.yaml"

#cloud-config
ssh_authorized_keys:
  - {key}

--==BOUNDARY==
Content-Type: text/x-shellscript; charset="us-ascii"
MIME-Version: 1.0
Content-Disposition: attachment; filename="first.sh"

#!/bin/sh
hostname >/root/first
id -u >>/root/first

--==BOUNDARY==--
"""
VERSION_1 = f"""\
version: 1
config:
  - type: physical
    name: PORT
    subnets:
      - {{type: static, address: {GUEST}/24, gateway: 10.0.2.2, dns_nameservers: [10.0.2.3]}}
"""
PORT = "enp0s2"
"""Name of the network port of QEMU's machine."""


@contextmanager
def started(files, console, machine):
    """Boot a guest whose seed has these files: functions of the public key."""
    image, expected, qemu, hardware = machine
    with seed(expected.user, expected.ssh_port) as login:
        key = login.key.with_suffix(".pub").read_text().strip()
        for name, text in files.items():
            (login.folder / name).write_text(text(key))
        with guest(image, login, qemu, hardware, console=console) as running:
            running.wait_for_ssh()
            running.ssh("cloud-init status --wait", timeout_s=1800, check=False)
            yield running


@pytest.fixture(scope="module")
def machine(image, expected, qemu, hardware):
    return image, expected, qemu, hardware


@pytest.fixture(scope="module")
def box(machine, tmp_path_factory):
    files = {
        "user-data": lambda key: "#cloud-config\n" + json.dumps(user_data(key)),
        "network-config": lambda _: NETWORK,
    }
    with started(files, tmp_path_factory.mktemp("seed") / "console.log", machine) as running:
        yield running


@pytest.fixture(scope="module")
def box_of_parts(machine, tmp_path_factory):
    files = {
        "meta-data": lambda _: "instance-id: parts-1\nlocal-hostname: box-8\n",
        "user-data": lambda key: PARTS.format(key=key),
        "network-config": lambda _: VERSION_1.replace("PORT", PORT),
    }
    with started(files, tmp_path_factory.mktemp("parts") / "console.log", machine) as running:
        yield running


def salt(box, *words):
    ran = box.ssh(f"sudo salt-call --local --out=json --log-level=quiet {' '.join(words)}", timeout_s=1800, check=False)
    return json.loads(ran.stdout)["local"]


def test_the_user_of_the_seed_can_log_in_and_become_root(box):
    command = box.ssh_command("-o", "ConnectTimeout=20", user="ada")
    ran = subprocess.run([*command, "sudo -n id -u"], capture_output=True, text=True, check=False, timeout=120)
    assert ran.stdout.strip() == "0", ran.stderr


def test_the_password_is_refused_with_a_message(box):
    status = json.loads(box.ssh("cloud-init status --format json", check=False).stdout)
    assert REFUSED in str(status["errors"])
    assert REFUSED in box.run.console.read_text(errors="replace")
    assert box.ssh("sudo getent shadow ada").stdout.split(":")[1] == "!"


def test_name_zone_and_address_are_those_of_the_seed(box):
    assert box.ssh("hostname; getent hosts box-7 >/dev/null && echo resolved").stdout.split() == ["box-7", "resolved"]
    assert box.ssh("timedatectl show -p Timezone --value").stdout.strip() == "Europe/Berlin"
    addresses = json.loads(box.ssh("ip -j -4 address").stdout)
    (entry,) = [part for link in addresses for part in link["addr_info"] if part["local"] == GUEST]
    assert not entry.get("dynamic")


def test_the_seed_is_no_drift(box):
    report = salt(box, "drift.report")
    assert report["findings"] == []
    kept = {part["what"]: part["entries"] for part in report["kept"]}
    assert set(kept["cloud-init's seed"]) == {"hostname box-7", "timezone Europe/Berlin"}


def test_the_owner_s_entries_stay_and_a_damaged_file_is_repaired(box):
    mount = "LABEL=data /data ext4 nofail 0 2"
    box.ssh(
        f"echo '{mount}' | sudo tee -a /etc/fstab; sudo ufw allow 8080/tcp; sudo truncate -s 0 /etc/docker/daemon.json"
    )
    box.ssh("sudo systemctl restart docker.service", check=False)
    report = salt(box, "drift.report", "base")
    assert {finding["what"] for finding in report["findings"]} >= {"/etc/docker/daemon.json"}
    assert [mount] in [part["entries"] for part in report["kept"]]
    ran = salt(box, "state.apply", "base")
    assert not [state["comment"] for state in ran.values() if state["result"] is not True]
    assert mount in box.ssh("cat /etc/fstab").stdout.splitlines()
    assert "8080/tcp" in box.ssh("sudo ufw status").stdout
    assert box.ssh("systemctl is-active docker.service").stdout.strip() == "active"
    assert not [state["__id__"] for state in salt(box, "state.apply").values() if state["changes"]]


def test_the_keys_at_the_top_let_the_first_user_in_and_nothing_is_reported(box_of_parts):
    assert box_of_parts.ssh("id -un").stdout.strip() == box_of_parts.seed.user
    status = json.loads(box_of_parts.ssh("cloud-init status --format json", check=False).stdout)
    assert (status["status"], status["errors"]) == ("done", [])
    assert box_of_parts.ssh("ls /run/issue.d", check=False).stdout == ""


def test_the_script_ran_once_as_root_after_the_name_was_set(box_of_parts):
    assert box_of_parts.ssh("sudo cat /root/first").stdout.split() == ["box-8", "0"]
    assert box_of_parts.ssh("hostname; getent hosts box-8 >/dev/null && echo resolved").stdout.split() == [
        "box-8", "resolved",
    ]  # fmt: skip


def test_the_address_of_version_1_is_static(box_of_parts):
    (link,) = [link for link in json.loads(box_of_parts.ssh("ip -j -4 address").stdout) if link["ifname"] == PORT]
    assert [(part["local"], part.get("dynamic", False)) for part in link["addr_info"]] == [(GUEST, False)]
    assert "default via 10.0.2.2" in box_of_parts.ssh("ip -4 route").stdout


def test_the_parts_are_no_drift(box_of_parts):
    report = salt(box_of_parts, "drift.report")
    assert report["findings"] == []
    kept = {part["what"]: part["entries"] for part in report["kept"]}
    assert set(kept["cloud-init's seed"]) == {"hostname box-8"}
