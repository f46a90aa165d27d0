"""Layer base as Salt renders it for each target: its release's names, one owner a file, no state that lies offline."""

from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
TARGETS = sorted(path.name.removesuffix(".sls") for path in (TOP / "pillar/targets").glob("*.sls"))

# On record: packages.ubuntu.com, suite noble; socket activation: Ubuntu's announcement "SSHd now uses socket-based
# activation (Ubuntu 22.10 and later)". Not held against the archive itself from here.
NOBLE = {"linux-image-generic", "openssh-server", "docker.io", "systemd-resolved", "systemd-timesyncd", "ufw",
         "fail2ban", "python3-systemd", "cloud-init", "unattended-upgrades", "apparmor"}  # fmt: skip

# what Salt would do to the building machine, or only say that it did
NEVER = {"service.running", "service.enabled", "service.dead", "sysctl.present", "kmod.present", "timezone.system",
         "pkg.held", "locale.system", "network.system", "pkgrepo.managed", "mount.mounted", "host.present"}  # fmt: skip


@pytest.fixture
def low(salt_of):
    """low(target) is the layer as low chunks."""

    def render(target):
        chunks = salt_of(target).modules.state.show_low_sls("base")
        assert all(isinstance(chunk, dict) for chunk in chunks), chunks
        return chunks

    return render


def named(chunks, name):
    return next(chunk for chunk in chunks if chunk["name"] == name)


@pytest.mark.parametrize("target", TARGETS)
def test_every_concern_is_there(low, target):
    concerns = {file.stem for file in (TOP / "salt/base").glob("*.sls")} - {"init"}
    assert {chunk["__sls__"] for chunk in low(target)} == {f"base.{name}" for name in concerns}


@pytest.mark.parametrize("target", TARGETS)
def test_no_state_lies_in_a_chroot(low, target):
    used = {f"{chunk['state']}.{chunk['fun']}" for chunk in low(target)}
    assert not used & NEVER


@pytest.mark.parametrize("target", TARGETS)
def test_commands_run_only_on_a_live_box(low, target):
    # these change files of the tree only
    in_tree = ("apt-mark hold ", "update-initramfs ")
    commands = [chunk for chunk in low(target) if chunk["state"] == "cmd" and not chunk["name"].startswith(in_tree)]
    assert commands
    for chunk in commands:
        assert "/run/systemd/system" in chunk["onlyif"] or "systemctl --quiet is-active" in chunk["onlyif"], chunk
        assert chunk["onchanges"], chunk["__id__"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_has_one_owner(low, target):
    files = [chunk["name"] for chunk in low(target) if chunk["state"] == "file"]
    assert sorted(files) == sorted(set(files))


@pytest.mark.parametrize("target", TARGETS)
def test_no_key_and_no_password_is_baked_in(low, target):
    text = str(low(target))
    assert "ssh-ed25519 AAAA" not in text
    assert not [chunk for chunk in low(target) if chunk["state"] == "user" and "password" in chunk]


def test_ubuntu_has_its_own_names(low):
    chunks = low("ubuntu-24.04")
    packages = set(next(chunk["pkgs"] for chunk in chunks if chunk["fun"] == "installed"))
    assert packages >= NOBLE
    # Debian's names, which noble does not have
    assert not packages & {"linux-image-amd64", "linux-image-cloud-amd64", "docker-cli"}
    assert named(chunks, "apt-mark hold linux-image-generic")["unless"].endswith("grep -qx linux-image-generic")
    on = {chunk["name"] for chunk in chunks if chunk["state"] == "unit"}
    assert "ssh.socket" in on
    assert "ssh.service" not in on
    again = next(chunk["name"] for chunk in chunks if chunk["__id__"] == "sshd reads its configuration again")
    assert again == "sshd -t && systemctl daemon-reload && systemctl restart ssh.socket ssh.service"
    updates = named(chunks, "/etc/apt/apt.conf.d/99vault-cube-updates")["contents"]
    assert '"origin=Ubuntu,archive=${distro_codename}-security,label=Ubuntu"' in updates
    assert "Debian" not in updates
    sources = "\n".join(named(chunks, "/etc/apt/sources.list")["contents"])
    assert {"noble", "noble-updates", "noble-security"} == {line.split()[3] for line in sources.splitlines()[1:]}
    assert "ubuntu-archive-keyring" in sources
    assert "debian" not in sources


@pytest.mark.parametrize("target", TARGETS)
def test_unit_is_a_state_of_salt_s(salt_of, target):
    # the real systemctl, asked and not told; there is no such unit on any machine
    states = salt_of(target).states
    assert states.unit.disabled("vault-cube-no-such.service").changes == {}
    assert {"enabled", "disabled", "masked"} <= {name.partition(".")[2] for name in states if name.startswith("unit.")}


MICROCODE = {
    "/etc/default/amd64-microcode": ["AMD64UCODE_INITRAMFS=early"],
    "/etc/default/intel-microcode": ["IUCODE_TOOL_INITRAMFS=early", "IUCODE_TOOL_SCANCPUS=no"],
}


@pytest.mark.parametrize("target", ["ubuntu-24.04", "debian-13-nvidia"])
def test_microcode_does_not_depend_on_the_builder_s_processor(low, target):
    chunks = sorted(low(target), key=lambda chunk: chunk["order"])
    places = {chunk["name"]: place for place, chunk in enumerate(chunks)}
    packages = next(chunk["pkgs"] for chunk in chunks if chunk["fun"] == "installed")
    made = named(chunks, "update-initramfs -u -k all")
    for file, lines in MICROCODE.items():
        assert file.rpartition("/")[2] in packages
        assert named(chunks, file)["contents"][1:] == lines
        assert places[file] < places["update-initramfs -u -k all"]
        assert {"file": named(chunks, file)["__id__"]} in made["onchanges"]


def test_a_target_without_microcode_makes_its_initial_ram_disk_once(low):
    names = {chunk["name"] for chunk in low("debian-12")}
    assert not names & {*MICROCODE, "update-initramfs -u -k all"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_initial_ram_disk_takes_nothing_from_the_builder(low, target):
    chunks = low(target)
    settings = named(chunks, "/etc/initramfs-tools/conf.d/zz-vault-cube")
    assert settings["contents"][1:] == ["MODULES=most", "RESUME=none"]
    # the kernel's package makes the disk
    installed = next(chunk for chunk in chunks if chunk["fun"] == "installed")
    assert settings["require_in"] == [{"pkg": installed["__id__"]}]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("sshd:x:104:65534::/run/sshd:/usr/sbin/nologin", True),
        ("sshd:x:6100:65534::/run/sshd:/usr/sbin/nologin", True),
        ("sshd:x:61:65534::/run/sshd:/usr/sbin/nologin", True),
        ("sshd:x:610:65534::/run/sshd:/bin/bash", False),  # its own id: the rest is repaired
        ("sshd2:x:104:65534::/run/sshd:/usr/sbin/nologin", False),
        ("root:x:0:0:root:/root:/bin/bash", False),  # the account does not exist
    ],
)
def test_an_account_that_has_another_id_is_left_alone(low, salt_of, tmp_path, line, kept):
    (condition,) = named([chunk for chunk in low("debian-12") if chunk["state"] == "user"], "sshd")["unless"]
    assert (condition["fun"], condition["args"][0]) == ("file.search", "/etc/passwd")
    (tmp_path / "passwd").write_text(f"daemon:x:1:1::/:/bin/sh\n{line}\n")
    assert salt_of("debian-12").modules.file.search(str(tmp_path / "passwd"), condition["args"][1]) is kept


@pytest.mark.parametrize("target", TARGETS)
def test_no_condition_runs_under_a_shell_that_is_no_shell(low, target):
    """Salt runs a command in `unless` and `onlyif` with the state's own `shell`."""
    for chunk in low(target):
        if "shell" in chunk:
            conditions = [*chunk.get("unless", []), *chunk.get("onlyif", [])]
            assert all(isinstance(condition, dict) for condition in conditions), chunk["__id__"]
