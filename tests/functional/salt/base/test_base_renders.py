"""Layer base as Salt renders it for each target: its release's names, and only states that work in a chroot."""

import pytest
import yaml
from copied import TOP

TARGETS = sorted(path.name.removesuffix(".sls") for path in (TOP / "pillar/targets").glob("*.sls"))

# Sources: packages.ubuntu.com, suite noble; for socket activation, Ubuntu's announcement "SSHd now uses socket-based
# activation (Ubuntu 22.10 and later)". These tests do not query the archive itself.
NOBLE = {"linux-image-generic", "openssh-server", "docker.io", "systemd-resolved", "systemd-timesyncd", "ufw",
         "fail2ban", "python3-systemd", "cloud-init", "unattended-upgrades", "apparmor"}  # fmt: skip

# states that would change the building machine, or report success in a chroot without doing anything
NEVER = {"service.running", "service.enabled", "service.dead", "sysctl.present", "kmod.present", "timezone.system",
         "pkg.held", "locale.system", "network.system", "pkgrepo.managed", "mount.mounted", "host.present"}  # fmt: skip


@pytest.fixture
def low(salt_of):
    """low(target) returns the layer as low chunks."""

    def render(target):
        chunks = salt_of(target).modules.state.show_low_sls("base")
        assert all(isinstance(chunk, dict) for chunk in chunks), chunks
        return chunks

    return render


def named(chunks, name):
    return next(chunk for chunk in chunks if chunk["name"] == name)


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_of_the_layer_is_included(low, target):
    concerns = {file.stem for file in (TOP / "salt/base").glob("*.sls")} - {"init"}
    assert {chunk["__sls__"] for chunk in low(target)} == {f"base.{name}" for name in concerns}


@pytest.mark.parametrize("target", TARGETS)
def test_only_states_that_work_in_a_chroot_are_used(low, target):
    used = {f"{chunk['state']}.{chunk['fun']}" for chunk in low(target)}
    assert not used & NEVER


@pytest.mark.parametrize("target", TARGETS)
def test_commands_run_only_on_a_live_box(low, target):
    # these commands change only files of the tree
    in_tree = ("update-initramfs ",)
    commands = [chunk for chunk in low(target) if chunk["state"] == "cmd" and not chunk["name"].startswith(in_tree)]
    assert commands
    for chunk in commands:
        assert "/run/systemd/system" in chunk["onlyif"] or "systemctl --quiet is-active" in chunk["onlyif"], chunk
        assert chunk["onchanges"], chunk["__id__"]


@pytest.mark.parametrize("target", TARGETS)
def test_no_file_is_managed_by_two_states(low, target):
    states = [chunk for chunk in low(target) if chunk["state"] == "file"]
    files = [chunk["name"] for chunk in states if chunk["fun"] != "replace"]
    assert sorted(files) == sorted(set(files))
    # whoever writes a whole file would undo the change of a line, and the other way round
    lines = {chunk["name"] for chunk in states if chunk["fun"] == "replace"}
    whole = {chunk["name"] for chunk in states if chunk["fun"] == "managed" and chunk.get("replace", True)}
    assert not lines & whole


@pytest.mark.parametrize("target", TARGETS)
def test_salt_itself_writes_nothing_to_the_disk(low, target):
    settings = yaml.safe_load(named(low(target), "/etc/salt/minion")["contents"])
    assert {
        settings[name].split("/")[1] for name in ("cachedir", "extension_modules", "pki_dir", "sock_dir", "log_file")
    } == {"run"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_has_no_key_and_no_password(low, target):
    text = str(low(target))
    assert "ssh-ed25519 AAAA" not in text
    assert not [chunk for chunk in low(target) if chunk["state"] == "user" and "password" in chunk]


def test_ubuntu_uses_its_own_names(low):
    chunks = low("ubuntu-24.04")
    packages = set(next(chunk["pkgs"] for chunk in chunks if chunk["fun"] == "installed"))
    assert packages >= NOBLE
    # Debian's names, which noble does not have
    assert not packages & {"linux-image-amd64", "linux-image-cloud-amd64", "docker-cli"}
    (held,) = [chunk["packages"] for chunk in chunks if chunk["state"] == "held" and chunk["__sls__"] == "base.kernel"]
    assert held == ["linux-image-generic"]
    units = {chunk["name"] for chunk in chunks if chunk["state"] == "unit"}
    assert "ssh.socket" in units
    assert "ssh.service" not in units
    restart = next(chunk["name"] for chunk in chunks if chunk["__id__"] == "sshd reads its configuration again")
    assert restart == "sshd -t && systemctl daemon-reload && systemctl restart ssh.socket ssh.service"
    updates = named(chunks, "/etc/apt/apt.conf.d/99vault-cube-updates")["contents"]
    assert '"origin=Ubuntu,archive=${distro_codename}-security,label=Ubuntu"' in updates
    assert "Debian" not in updates
    sources = "\n".join(named(chunks, "/etc/apt/sources.list")["lines"])
    assert {"noble", "noble-updates", "noble-security"} == {line.split()[3] for line in sources.splitlines()}
    assert "ubuntu-archive-keyring" in sources
    assert "debian" not in sources


@pytest.mark.parametrize("target", TARGETS)
def test_salt_loads_the_unit_states(salt_of, target):
    # uses the real systemctl, but no machine has this unit, so nothing changes
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
    update = named(chunks, "update-initramfs -u -k all")
    for file, lines in MICROCODE.items():
        assert file.rpartition("/")[2] in packages
        assert named(chunks, file)["contents"][1:] == lines
        assert places[file] < places["update-initramfs -u -k all"]
        assert {"file": named(chunks, file)["__id__"]} in update["onchanges"]


def test_a_target_without_microcode_builds_its_initial_ram_disk_once(low):
    names = {chunk["name"] for chunk in low("debian-12")}
    assert not names & {*MICROCODE, "update-initramfs -u -k all"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_initial_ram_disk_takes_nothing_from_the_builder(low, target):
    chunks = low(target)
    settings = named(chunks, "/etc/initramfs-tools/conf.d/zz-vault-cube")
    assert settings["contents"][1:] == ["MODULES=most", "RESUME=none", "FSTYPE=ext4"]
    # the kernel's package builds the initial RAM disk
    installed = next(chunk for chunk in chunks if chunk["fun"] == "installed")
    assert settings["require_in"] == [{"packages": installed["__id__"]}]


@pytest.mark.parametrize("target", TARGETS)
def test_conditions_do_not_run_under_an_account_s_login_shell(low, target):
    """Salt runs a command in `unless` and `onlyif` with the state's own `shell`."""
    for chunk in low(target):
        if "shell" in chunk:
            conditions = [*chunk.get("unless", []), *chunk.get("onlyif", [])]
            assert all(isinstance(condition, dict) for condition in conditions), chunk["__id__"]


def test_keys_with_white_space_and_comments_are_written_as_one_clean_line_each(salt_of):
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    keys = [f"# my laptop\r\n\t{key}   anna's\r\n\r\n", f"{key} 50% {{x}}: # 'y'", f"{key}\n{key} second\n"]
    local = {"base": {"users": {"vaultadmin": {"ssh_keys": keys}}}}
    chunks = salt_of("debian-12", local).modules.state.show_low_sls("base")
    chunk = named(chunks, "/home/vaultadmin/.ssh/authorized_keys2")
    assert chunk["lines"] == [f"{key} anna's", f"{key} 50% {{x}}: # 'y'", key, f"{key} second"]
