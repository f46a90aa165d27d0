"""QEMU's command line, and the search for QEMU's programs."""

import socket
from pathlib import Path

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.qemu import Hardware, Qemu, Run, command, free_port
from vault_cube.image.guest.seed import Seed

QEMU = Qemu(("qemu-system-x86_64",), ("qemu-img",), Path("/ovmf/code.fd"), Path("/ovmf/vars.fd"))
HARDWARE = Hardware(memory_mib=2048, cpus=2, growth_gib=8)


def line(accelerator="tcg", **changes):
    run = Run(**{
        "disk": Path("/w/disk.qcow2"),
        "variables": Path("/w/vars.fd"),
        "console": Path("/w/console"),
        "qmp": Path("/w/qmp"),
        "port": 4022,
        "seed": Seed(Path("/w/seed"), Path("/w/key"), "operator", 2022),
        **changes,
    })  # fmt: skip
    return command(QEMU, HARDWARE, run, accelerator)


def values(words, option):
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_ssh_is_forwarded_on_loopback_only():
    forwards = [word for word in line() if "hostfwd" in word]
    assert len(forwards) == 1
    assert "hostfwd=tcp:127.0.0.1:4022-10.0.2.15:2022" in forwards[0]


def test_the_processor_follows_the_accelerator():
    assert values(line("tcg"), "-cpu") == ["max"]
    assert values(line("tcg"), "-accel") == ["tcg,thread=multi"]
    assert values(line("kvm"), "-cpu") == ["host"]
    assert values(line("kvm"), "-accel") == ["kvm"]


def test_an_emulated_guest_skips_the_timer_check():
    assert values(line("tcg"), "-smbios") == ["type=11,value=io.systemd.stub.kernel-cmdline-extra=no_timer_check"]
    assert values(line("kvm"), "-smbios") == []


def test_the_seed_is_a_read_only_disk_with_cloud_inits_label():
    drive = next(word for word in line() if "vvfat" in word)
    assert set(drive.split(",")) >= {"driver=vvfat", "read-only=on", "label=CIDATA", "dir=/w/seed"}


def test_the_firmware_is_not_written_to():
    code = next(word for word in line() if "/ovmf/code.fd" in word)
    assert "readonly=on" in code
    # the guest gets a copy of the variables, never the original
    assert not any("/ovmf/vars.fd" in word for word in line())


def test_commas_in_a_path_do_not_start_an_option():
    drive = next(word for word in line(disk=Path("/w/a,b.qcow2")) if "a,,b" in word)
    assert drive.endswith("file=/w/a,,b.qcow2")


def test_an_own_network_is_restricted():
    words = line(own_network=True)
    user = next(word for word in words if word.startswith("user,"))
    assert user.endswith("restrict=on")
    assert values(words, "-device").count("virtio-net-pci,netdev=guest,romfile=") == 1
    # the guest's card is on the tap, so that the user network does not receive packets for the guest
    assert "netdev=user," not in "".join(values(words, "-device"))


def test_a_free_port_is_not_returned_again_while_in_use():
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert free_port() != port


def test_a_tools_tree_without_qemu_is_reported_in_one_line(tmp_path):
    with pytest.raises(VaultCubeError, match="no qemu-system-x86_64: add its package to image:tools:packages"):
        Qemu.of_tree(tmp_path)


def test_a_machine_without_qemu_is_reported_in_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(VaultCubeError, match=r"^qemu-system-x86_64 is missing: install"):
        Qemu.of_host()


def test_qemu_of_a_tools_tree_is_run_by_the_trees_loader(tmp_path):
    for name in ("usr/bin/qemu-system-x86_64", "usr/bin/qemu-img", "usr/share/OVMF/OVMF_CODE_4M.fd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(VaultCubeError, match="install ovmf"):
        Qemu.of_tree(tmp_path)
    (tmp_path / "usr/share/OVMF/OVMF_VARS_4M.fd").touch()
    qemu = Qemu.of_tree(tmp_path)
    for words in (qemu.system, qemu.image):
        assert all(word.startswith((str(tmp_path), "-")) for word in words)
