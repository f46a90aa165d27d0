"""The sandbox of our units, as the real `systemd-analyze security` scores it without running them."""

import re
import subprocess

import pytest
from rendered import files, text

UNITS = "/etc/systemd/system"
# 10 is worst. docs/decisions/hardening.md has the measured scores; later versions of systemd weigh a little differently
HIGHEST = {
    "vault-cube-vllm@.service": 3.0,
    "vault-cube-disks.service": 4.0,
    "vault-cube-gpus.service": 3.0,
    "vault-cube-cdi.service": 3.5,
    "ssh-host-keys.service": 2.0,
    "prometheus-node-exporter.service": 3.0,
}
NVIDIA = "debian-13-nvidia"
# from Debian's package, without what our drop-in replaces
NODE_EXPORTER = "[Service]\nUser=prometheus\nExecStart=/usr/bin/prometheus-node-exporter\n"
ALWAYS = ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes")


def unit(salt, name):
    """The unit's text; for a packaged unit, that of the package with our drop-in."""
    written = files(salt)
    if f"{UNITS}/{name}" in written:
        return text(salt, written[f"{UNITS}/{name}"])
    return NODE_EXPORTER + text(salt, written[f"{UNITS}/{name}.d/vault-cube.conf"])


def score(folder, name, content):
    file = folder / name.replace("@", "@0")
    file.write_text(content)
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", file]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("needs the package systemd")
    found = re.search(r"exposure level for \S+ (\d+\.\d+)", ran.stdout)
    assert found, ran.stdout + ran.stderr
    assert "Unknown" not in ran.stderr, ran.stderr
    return float(found[1])


@pytest.mark.parametrize("name", HIGHEST)
def test_a_unit_s_score_is_no_worse_than_recorded(salt_of, tmp_path, name):
    assert score(tmp_path, name, unit(salt_of(NVIDIA), name)) <= HIGHEST[name]


def test_a_unit_without_the_sandbox_is_worse(salt_of, tmp_path):
    content = unit(salt_of(NVIDIA), "vault-cube-gpus.service")
    weaker = re.sub(r"^(CapabilityBoundingSet|SystemCallFilter|Restrict\w+)=.*\n", "", content, flags=re.M)
    assert score(tmp_path, "weaker.service", weaker) > HIGHEST["vault-cube-gpus.service"]


@pytest.mark.parametrize("target", ["debian-12", NVIDIA, "ubuntu-24.04"])
def test_every_service_that_we_write_is_sandboxed_or_named_here(salt_of, target):
    """The decision gives the reason for each of these."""
    open_services = {
        "vault-cube-stress.service", "vault-cube-gpu-power.service", "vault-cube-dcgm-exporter.service",
        "vault-cube-drift.service", "vault-cube-drift-full.service",
    }  # fmt: skip
    salt = salt_of(target)
    services = {
        path: text(salt, chunk) for path, chunk in files(salt).items() if re.match(UNITS + r"/[^/]+\.service$", path)
    }
    assert len(services) >= 4
    for path, content in services.items():
        lines = content.splitlines()
        if path.rpartition("/")[2] not in open_services:
            assert set(ALWAYS) < set(lines), path
            assert [line for line in lines if line.startswith("SystemCallFilter=@system-service")], path


def test_gpus_and_disks_stay_open_for_the_units_that_read_them(salt_of):
    """ProtectClock implies a list of allowed devices (systemd.exec(5)), and PrivateDevices hides them."""
    salt = salt_of(NVIDIA)
    for name in (
        "vault-cube-gpus.service",
        "vault-cube-disks.service",
        "vault-cube-cdi.service",
        "vault-cube-vllm@.service",
    ):
        assert not re.search(
            "^(ProtectClock|PrivateDevices|DevicePolicy|DeviceAllow|ProcSubset)=", unit(salt, name), re.M
        ), name
    assert "PrivateDevices=yes" in unit(salt_of("debian-12"), "vault-cube-vllm@.service")


def test_each_key_of_a_unit_is_set_once(salt_of):
    salt = salt_of(NVIDIA)
    for name in HIGHEST:
        keys = re.findall(r"^([A-Z]\w+)=", unit(salt, name), re.M)
        repeated = {key for key in keys if keys.count(key) > 1} - {"Environment", "After", "ExecStart"}
        assert not repeated, name


@pytest.mark.parametrize("target", ["debian-12", NVIDIA])
def test_vllm_talks_to_itself_by_loopback_while_it_reaches_nothing_else(salt_of, target):
    written = unit(salt_of(target), "vault-cube-vllm@.service")
    assert "IPAddressDeny=any\nIPAddressAllow=localhost\n" in written
    assert {"Environment=VLLM_HOST_IP=127.0.0.1", "Environment=NCCL_SOCKET_IFNAME=lo"} < set(written.splitlines())


def test_a_pillar_that_opens_a_network_leaves_the_interface_to_vllm(salt_of):
    salt = salt_of("debian-12", {"frameworks": {"vllm": {"reach": ["localhost", "10.0.0.0/8"]}}})
    written = unit(salt, "vault-cube-vllm@.service")
    assert "IPAddressAllow=localhost 10.0.0.0/8\n" in written
    assert "NCCL_SOCKET_IFNAME" not in written
