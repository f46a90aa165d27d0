"""Who can log in after a boot with each form of a seed, and what the console and `cloud-init status` report."""

import json

import pytest
from forms import FORMS, KEY, TEXTS, YAML
from rendered import files, text

SEEDS = {name: ("#cloud-config\n" + json.dumps(config), *rest) for name, (config, *rest) in FORMS.items()} | TEXTS


@pytest.mark.parametrize("form", SEEDS)
def test_who_gets_in_and_what_is_reported(boot, form):
    user_data, logins, messages = SEEDS[form]
    result = boot(user_data)
    with_keys = {name: len(person["keys"]) for name, person in result["people"].items() if person["keys"]}
    assert with_keys == logins, result["output"][-3000:]
    assert all(result["people"][name]["allowed"] for name in logins)
    assert all(person["locked"] for person in result["people"].values())
    status = str(result["errors"]).replace("\\", "")
    for message in messages:
        assert message in result["issue"]
        assert message in status
    if not messages:
        assert (result["issue"], result["errors"]) == ("", []), result["output"][-3000:]
    assert "geheim" not in result["issue"] + str(result["errors"])
    assert result["sshd"] == ""  # no drop-in of cloud-init's


def test_a_user_of_the_seed_has_what_it_asks_for(boot):
    result = boot(
        "#cloud-config\n"
        + json.dumps(
            {"users": [{"name": "ada", "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash", "groups": "docker"}]}
        )
    )
    ada = result["people"]["ada"]
    assert ada["shell"] == "/bin/bash"
    assert {"docker", "ssh-login"} <= set(ada["groups"])
    assert "ada ALL=(ALL) NOPASSWD:ALL" in result["sudo"]


def test_the_default_user_under_another_name_has_the_same_rights(boot):
    result = boot("#cloud-config\n" + json.dumps({"user": "ubuntu", "ssh_authorized_keys": [KEY]}))
    ubuntu = result["people"]["ubuntu"]
    assert {"sudo", "docker", "ssh-login"} <= set(ubuntu["groups"])
    assert "ubuntu ALL=(ALL) NOPASSWD:ALL" in result["sudo"]


def test_without_a_seed_the_login_prompt_explains_why_nobody_can_log_in(boot):
    result = boot(None)
    assert "nobody can log in by ssh: no account has a key: cloud-init found no medium" in result["issue"]
    assert result["errors"] == []  # an image without a seed is not an error


def test_a_medium_without_meta_data_is_reported(boot):
    result = boot(YAML, meta_data=None, label="CIDATA")
    assert "has the label CIDATA, but not both files user-data and meta-data" in result["issue"]
    assert "has the label CIDATA" in str(result["errors"])


# seed: user-data, meta-data, then host name, record, names in /etc/hosts
NAMES = {
    "no name": ({}, "", "vault-cube", {}, {"vault-cube"}),
    "hostname": ({"hostname": "box-7"}, "", "box-7", {"hostname": "box-7"}, {"box-7"}),
    "fqdn": ({"fqdn": "box-7.example.org"}, "", "box-7", {"hostname": "box-7"}, {"box-7", "box-7.example.org"}),
    "hostname with a domain": (
        {"hostname": "box-7.example.org"},
        "",
        "box-7",
        {"hostname": "box-7"},
        {"box-7", "box-7.example.org"},
    ),
    "both": (
        {"hostname": "box-7", "fqdn": "gpu.example.org"},
        "",
        "box-7",
        {"hostname": "box-7"},
        {"box-7", "gpu.example.org"},
    ),
    "the whole name": (
        {"fqdn": "box-7.example.org", "prefer_fqdn_over_hostname": True},
        "",
        "box-7.example.org",
        {"hostname": "box-7.example.org"},
        {"box-7", "box-7.example.org"},
    ),
    "meta-data": ({}, "local-hostname: box-7\n", "box-7", {"hostname": "box-7"}, {"box-7"}),
    "a capital letter": ({"hostname": "Box7"}, "", "Box7", {"hostname": "Box7"}, {"Box7"}),
    "preserved": ({"hostname": "box-7", "preserve_hostname": True}, "", "vault-cube", {}, {"vault-cube"}),
    "hosts by cloud-init": (
        {"hostname": "box-7", "manage_etc_hosts": True},
        "",
        "box-7",
        {"hostname": "box-7"},
        {"box-7"},
    ),
    "local host by cloud-init": (
        {"hostname": "box-7", "manage_etc_hosts": "localhost"},
        "",
        "box-7",
        {"hostname": "box-7"},
        {"box-7"},
    ),
}


@pytest.mark.parametrize("form", NAMES)
def test_the_host_name_of_the_seed(boot, salt_of, form):
    config, meta_data, name, record, names = NAMES[form]
    user_data = "#cloud-config\n" + json.dumps({"ssh_authorized_keys": [KEY], **config})
    result = boot(user_data, meta_data="instance-id: box-1\n" + meta_data)
    assert (result["hostname"], result["record"], result["issue"]) == (name, record, "")
    lines = [line.split() for line in result["hosts"].splitlines()]
    assert names <= {word for line in lines if line[:1] == ["127.0.1.1"] for word in line[1:]}
    if config.get("manage_etc_hosts") is not True:
        assert ["10.0.0.9", "models"] in lines
    # what the states would write, so that the seed is no drift
    box = salt_of("debian-12", {"base": {"hostname": name}})
    assert f'instance: "{name}"' in result["scrapes"]
    assert result["scrapes"] == text(box, files(box)["/etc/vault-cube/monitoring/prometheus.yml"])


def test_a_host_name_that_is_none_is_reported(boot):
    result = boot("#cloud-config\n" + json.dumps({"ssh_authorized_keys": [KEY], "hostname": "my_box"}))
    assert "hostname: 'my_box' is not a host name" in result["issue"]
    assert result["record"] == {}


# time zone in the seed: zone of the box, message
ZONES = {
    "Europe/Berlin": ("Europe/Berlin", ""),
    "Etc/UTC": ("Etc/UTC", ""),
    "Mars/Olympus": ("Etc/UTC", "timezone: Mars/Olympus: not in this box's"),
    "../../etc/passwd": ("Etc/UTC", "timezone: ../../etc/passwd: not in this box's"),
}


@pytest.mark.parametrize("zone", ZONES)
def test_the_time_zone_of_the_seed(boot, zone):
    wanted, message = ZONES[zone]
    result = boot("#cloud-config\n" + json.dumps({"ssh_authorized_keys": [KEY], "timezone": zone}))
    if message:
        assert message in result["issue"]
        assert result["record"] == {}
    else:
        assert (result["zone"], result["timezone"], result["issue"]) == (wanted, wanted, "")
        assert result["record"] == {"timezone": wanted}


# network-config, then texts in the files for networkd, messages
NETWORKS = {
    "a static address": (
        "version: 2\nethernets:\n  enp1s0:\n    addresses: [192.0.2.7/24]\n    gateway4: 192.0.2.1\n"
        "    nameservers: {addresses: [192.0.2.53], search: [example.org]}\n",
        ["Name=enp1s0", "Address=192.0.2.7/24", "Gateway=192.0.2.1", "DNS=192.0.2.53", "Domains=example.org"],
        [],
    ),
    "below the key network": (
        "network:\n  version: 2\n  ethernets:\n    enp1s0: {addresses: [192.0.2.7/24]}\n",
        ["Address=192.0.2.7/24"],
        [],
    ),
    "a pattern": (
        "version: 2\nethernets:\n  any:\n    match: {name: 'enp2*'}\n    addresses: [192.0.2.7/24]\n",
        ["Name=enp2s0", "Address=192.0.2.7/24"],
        [],
    ),
    "routes": (
        "version: 2\nethernets:\n  enp1s0: {addresses: [192.0.2.7/24], routes: [{to: default, via: 192.0.2.1}]}\n",
        ["Address=192.0.2.7/24", "Gateway=192.0.2.1"],
        [],
    ),
    "version 1": (
        "version: 1\nconfig:\n  - type: physical\n    name: enp1s0\n    subnets:\n"
        "      - {type: static, address: 192.0.2.7/24, gateway: 192.0.2.1}\n",
        ["Name=enp1s0", "Address=192.0.2.7/24", "Gateway=192.0.2.1"],
        [],
    ),
    "IPv6": (
        "version: 2\nethernets:\n  enp1s0: {dhcp4: false, addresses: ['2001:db8::7/64']}\n",
        ["Address=2001:db8::7/64"],
        [],
    ),
    "a port that is not there": (
        "version: 2\nethernets:\n  eth0: {addresses: [192.0.2.7/24]}\n",
        [],
        ["there is no port eth0; this box has enp1s0, enp2s0"],
    ),
    "version 1, a port that is not there": (
        "version: 1\nconfig:\n  - {type: physical, name: ens18, subnets: [{type: dhcp}]}\n",
        [],
        ["there is no port ens18"],
    ),
    "no version": ("ethernets:\n  enp1s0: {addresses: [192.0.2.7/24]}\n", [], ["network-config:"]),
    "switched off": ("config: disabled\n", [], []),
    "an empty file": ("", [], []),
}


@pytest.mark.parametrize("form", NETWORKS)
def test_the_network_of_the_seed(boot, form):
    config, texts, messages = NETWORKS[form]
    result = boot(YAML, network_config=config)
    files = "\n".join(result["networks"].values())
    assert all(text in files for text in texts), (files, result["issue"])
    # networkd takes the first file that matches: these come before 70-vault-cube.network, which uses DHCP
    assert all(path.rpartition("/")[2] < "70-" for path in result["networks"])
    assert all(message in result["issue"] for message in messages), result["issue"]
    assert messages or result["issue"] == ""
    if not texts and not messages:
        assert not result["networks"]
