"""The units of every target, written below a temporary root and checked with the real systemd tools.

Stand-ins from package_units.yaml replace the units of packages; systemd itself does not run.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from copied import TOP
from rendered import TARGETS, files, low, text, units

PACKAGE_UNITS = yaml.safe_load(Path(__file__).with_name("package_units.yaml").read_text())
OWN = "etc/systemd/system"
PACKAGED = "usr/lib/systemd/system"
ABOUT_GPUS = re.compile(r"nvidia|cuda|\bgpus?\b", re.IGNORECASE)
CARD = "ExecCondition=/bin/sh -c 'grep -qsx 0x10de /sys/bus/pci/devices/*/vendor'"
# the only units for GPUs that may lack the condition of salt/driver/card.jinja, with the reason
WITHOUT_CARD = {
    "nvidia-cdi-refresh.path": "starts a service that has the condition",
    "vault-cube-gpus.service": "without a card it reports 0 GPUs",
    "vault-cube-gpus.timer": "starts vault-cube-gpus.service",
    "vault-cube-cdi.path": "starts a service that has the condition",
    "vault-cube-stress.service": "starts only while gpu.stress has not finished",
    "vault-cube-vllm@.service": "starts only with a model, which no image has",
}


class Root:
    """A folder with the units of a target's image."""

    def __init__(self, folder, salt, target):
        self.folder, self.salt = folder, salt
        if not shutil.which("systemd-analyze"):
            pytest.skip("needs the package systemd")
        for place in (OWN, PACKAGED):
            (folder / place).mkdir(parents=True)
        for file in Path("/usr/lib/systemd/system").glob("*.target"):
            if not file.is_symlink():
                shutil.copy(file, folder / PACKAGED)
        system = yaml.safe_load((TOP / "pillar/targets" / f"{target}.sls").read_text())["target"]["os"]
        installed = {str(name) for chunk in low(salt) if chunk["fun"] == "installed" for name in chunk.get("pkgs", [])}
        self.packaged = {
            name: unit
            for name, unit in {**PACKAGE_UNITS["all"], **PACKAGE_UNITS[system]}.items()
            if unit.get("package", "systemd") in {*installed, "systemd"}
        }
        for name, unit in self.packaged.items():
            body = unit["text"]
            if name.endswith(".service") and "ExecStart=" not in body:
                body = body.replace("[Service]", "[Service]\nExecStart=/bin/true")
            (folder / PACKAGED / name).write_text(body)
        for path, chunk in files(salt).items():
            if path.startswith(f"/{OWN}/"):
                file = folder / path.lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text(salt, chunk))

    def systemctl(self, *words):
        ran = subprocess.run(
            ["systemctl", f"--root={self.folder}", *words], capture_output=True, text=True, check=False
        )
        return ran.stdout.strip()

    def enable(self):
        """Enable the units that packages enable, then those that states enable."""
        by_package = [name for name, unit in self.packaged.items() if unit.get("enabled")]
        self.systemctl("enable", *by_package)
        for name in units(self.salt):
            self.systemctl("enable", name)
        for name, unit in self.packaged.items():
            if unit.get("enabled_by_generator"):
                wants = self.folder / OWN / "multi-user.target.wants"
                wants.mkdir(parents=True, exist_ok=True)
                (wants / name).symlink_to(f"/{PACKAGED}/{name}")

    def names(self):
        """All services, sockets, timers and paths of the root."""
        names = {file.name for place in (OWN, PACKAGED) for file in (self.folder / place).iterdir() if file.is_file()}
        return sorted(name for name in names if not name.endswith(".target"))

    def merged(self, name):
        """A unit's text with its drop-ins."""
        file = next(self.folder / place / name for place in (OWN, PACKAGED) if (self.folder / place / name).exists())
        drop_ins = sorted((self.folder / OWN / f"{name}.d").glob("*.conf"))
        return "\n".join(part.read_text() for part in [file, *drop_ins])

    def verify(self):
        """What systemd-analyze says about the boot, without complaints about programs that are not installed here."""
        ran = subprocess.run(
            ["systemd-analyze", "verify", f"--root={self.folder}", "--man=no", "multi-user.target"],
            capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, timeout=60,
        )  # fmt: skip
        lines = (ran.stdout + ran.stderr).splitlines()
        return [line for line in lines if "is not executable" not in line and "Failed to open /dev/tty0" not in line]


@pytest.fixture
def root_of(salt_of, tmp_path):
    """root_of(target, local) returns the target's units, enabled as in the image. local: a local pillar."""

    def make(target, local=None):
        root = Root(tmp_path / target, salt_of(target, local), target)
        root.enable()
        return root

    return make


@pytest.mark.parametrize("target", TARGETS)
def test_units_that_must_start_at_boot_are_enabled(root_of, target):
    root = root_of(target)
    states = {name: root.systemctl("is-enabled", name) for name in units(root.salt)}
    assert len(states) > 10
    assert {name: state for name, state in states.items() if state != "enabled"} == {}


@pytest.mark.parametrize("target", TARGETS)
def test_no_unit_waits_for_itself(root_of, target):
    root = root_of(target)
    messages = root.verify()
    assert not [line for line in messages if "ordering cycle" in line or "to break" in line], messages
    ours = [line for line in messages if "vault-cube" in line or "ssh-host-keys" in line]
    assert not ours


SOCKET_ON_DEBIAN = {
    "base": {
        "ssh": {"service": "ssh.socket"},
        "units": [
            "ssh.socket",
            "systemd-networkd.service",
            "systemd-resolved.service",
            "docker.service",
            "ufw.service",
        ],
        "units_off": ["ssh.service"],
    }
}


def test_socket_activation_works_on_debian_too(root_of):
    root = root_of("debian-13", SOCKET_ON_DEBIAN)
    assert root.systemctl("is-enabled", "ssh.socket") == "enabled"
    assert not [line for line in root.verify() if "ordering cycle" in line]


@pytest.mark.parametrize(("target", "local"), [("ubuntu-24.04", None), ("debian-13", SOCKET_ON_DEBIAN)])
def test_a_unit_that_waits_for_itself_is_reported(root_of, target, local):
    root = root_of(target, local)
    keys = root.folder / OWN / "ssh-host-keys.service"
    keys.write_text(keys.read_text().replace("Before=ssh.service", "Before=ssh.service ssh.socket"))
    assert [line for line in root.verify() if "ordering cycle" in line]


@pytest.mark.parametrize(("line", "unit"), [
    ("After=multi-user.target\nBefore=basic.target", "vault-cube-disks.timer"),
    ("Before=sysinit.target", "vault-cube-stress.service"),
    ("Before=network-pre.target", "ssh-host-keys.service"),
])  # fmt: skip
def test_other_cycles_are_reported(root_of, line, unit):
    root = root_of("debian-12")
    file = root.folder / OWN / unit
    file.write_text(file.read_text().replace("[Unit]", f"[Unit]\n{line}"))
    assert [message for message in root.verify() if "ordering cycle" in message]


def lacking_condition(root):
    """List the units for GPUs that would start, and fail, without a card."""
    return [
        name for name in root.names()
        if name not in WITHOUT_CARD and ABOUT_GPUS.search(root.merged(name)) and CARD not in root.merged(name)
    ]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_card_units_for_gpus_are_skipped(root_of, target):
    assert lacking_condition(root_of(target)) == []


DCGM = {"validation": {"monitoring": {"dcgm": {"image": f"nvcr.io/nvidia/k8s/dcgm-exporter@sha256:{'0' * 64}"}}}}


def test_without_a_card_dcgm_exporter_is_skipped(root_of):
    root = root_of("ubuntu-24.04", DCGM)
    assert CARD in root.merged("vault-cube-dcgm-exporter.service")
    assert lacking_condition(root) == []


def test_a_box_of_a_fleet_starts_its_minion(root_of):
    root = root_of("debian-12", {"fleet": {"master": "salt.example", "master_key": ":".join(32 * ["ab"])}})
    assert root.systemctl("is-enabled", "vault-cube-fleet.service") == "enabled"
    assert not [line for line in root.verify() if "vault-cube-fleet" in line or "ordering cycle" in line]


@pytest.mark.parametrize("name", ["nvidia-cdi-refresh.service", "nvidia-persistenced.service"])
def test_a_packaged_unit_without_our_drop_in_is_reported(root_of, name):
    root = root_of("ubuntu-24.04")
    shutil.rmtree(root.folder / OWN / f"{name}.d")
    assert lacking_condition(root) == [name]


def test_a_new_unit_for_gpus_without_the_condition_is_reported(root_of):
    root = root_of("debian-13-nvidia")
    (root.folder / OWN / "new.service").write_text("[Service]\nExecStart=/usr/bin/nvidia-smi --query\n")
    assert lacking_condition(root) == ["new.service"]


@pytest.mark.parametrize(("vendors", "skipped"), [(["0x8086", "0x10de"], False), (["0x8086"], True), ([], True)])
def test_the_condition_checks_the_pci_bus(tmp_path, vendors, skipped):
    for number, vendor in enumerate(vendors):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
    command = re.fullmatch(r"ExecCondition=/bin/sh -c '(.*)'", CARD)[1].replace("/sys/bus/pci/devices", str(tmp_path))
    status = subprocess.run(["/bin/sh", "-c", command], check=False).returncode
    # systemd.service(5): status 0 starts the unit, 1 to 254 skip it, 255 fails it
    assert (status != 0) == skipped
    assert status < 255


@pytest.mark.parametrize("target", ["ubuntu-24.04", "debian-13-nvidia"])
def test_persistence_mode_is_on_and_stays(root_of, target):
    root = root_of(target)
    merged = root.merged("nvidia-persistenced.service")
    command = re.findall(r"^ExecStart=(.+)", merged, re.M)[-1]
    assert "--no-persistence-mode" not in command
    stop = re.findall(r"^StopWhenUnneeded=(.+)", merged, re.M)
    assert stop[-1:] in ([], ["no"])
    assert root.systemctl("is-enabled", "nvidia-persistenced.service") == "enabled"


def test_ubuntu_s_own_persistence_unit_would_not_start(root_of):
    root = root_of("ubuntu-24.04")
    shutil.rmtree(root.folder / OWN / "nvidia-persistenced.service.d")
    (root.folder / OWN / "multi-user.target.wants/nvidia-persistenced.service").unlink()
    assert root.systemctl("is-enabled", "nvidia-persistenced.service") == "static"
