"""The CDI specification that the box writes at boot, used by its Docker, with a stand-in for GPUs and NVML.

The driver's libraries are those of the image if it has a driver (`make test-slow TARGET=debian-13-nvidia`), else
stand-ins (`TARGET=debian-13`). Needs Docker 25 or newer.
"""

import json
import time

import pytest
import stand_in_gpu
from stand_in_gpu import OPENS, verdicts

from vault_cube import verdicts as outcomes
from vault_cube.box import runtime
from vault_cube.image.guest.cases import TAG, import_image

pytestmark = pytest.mark.slow

DAEMON = "/etc/docker/daemon.json"
LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"
FILE = "/run/cdi/nvidia.yaml"
UNIT = "vault-cube-cdi.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d"
FOLDER = "/usr/lib/x86_64-linux-gnu"
SMI = "/usr/bin/nvidia-smi"
CHOSEN = {
    "provider": "vault-cube", "mode": "cdi", "cgroup_driver": "systemd", "packages": [],
    "gates": {"gpus": 2, "together": 2},
}  # fmt: skip
# removes the condition, which requires a PCI card, because the guest has none
STAND_IN = f"""[Service]
ExecCondition=
Environment=LD_LIBRARY_PATH=/opt/stand-in FAKE_NVML={stand_in_gpu.STATE}
"""


@pytest.fixture(scope="module")
def driver_version(box, two_gpus, cuda):
    """The version of the driver's libraries in the guest; installs stand-ins if it has none."""
    # scope module, because the fake NVML must get its state before the guest does
    real = box.ssh(f"readlink -f {FOLDER}/libcuda.so.1").stdout.strip().rpartition(".so.")[2]
    if real[0].isdigit() and "." in real:
        yield real
        return
    version = two_gpus.state["driver_version"]
    for name, file in (("libcuda", cuda), ("libnvidia-ml", two_gpus.library)):
        stand_in_gpu.copy(box, file, f"{FOLDER}/{name}.so.{version}")
    box.ssh("sudo -n ldconfig", timeout_s=600)
    yield version
    box.ssh(f"sudo -n sh -c 'rm -f {FOLDER}/libcuda.so* {FOLDER}/libnvidia-ml.so*; ldconfig'", timeout_s=600)


@pytest.fixture(scope="module")
def applied(box):
    """Apply the states of provider vault-cube to the box without a card. Yields the result of starting the unit."""
    if int(box.ssh("docker version --format '{{.Server.Version}}'").stdout.split(".")[0]) < 25:
        pytest.skip("this image's Docker has no CDI")
    before = box.ssh(f"cat {DAEMON}").stdout
    owned = box.ssh(f"systemctl is-enabled {UNIT}", check=False).stdout.strip() == "enabled"
    box.ssh(f"sudo -n tee {LOCAL} >/dev/null", stdin=json.dumps({"runtime": CHOSEN}))
    apply = "sudo -n salt-call --local --log-level=quiet --retcode-passthrough state.apply runtime.cdi"
    box.ssh(apply, timeout_s=1800)
    yield box.ssh(f"sudo -n systemctl start {UNIT}", timeout_s=300, check=False)
    box.ssh(f"sudo -n rm -f {LOCAL}")
    if not owned:
        box.ssh("sudo -n systemctl disable --now vault-cube-cdi.path vault-cube-cdi.service", timeout_s=300)
        box.ssh("sudo -n rm -f /etc/systemd/system/vault-cube-cdi.path /etc/systemd/system/vault-cube-cdi.service")
        box.ssh(f"sudo -n tee {DAEMON} >/dev/null", stdin=before)
        box.ssh("sudo -n sh -c 'systemctl daemon-reload; systemctl restart docker'", timeout_s=900)


@pytest.fixture(scope="module")
def written(box, applied, driver_version, two_gpus, cuda):
    """The box after its unit has written the specification for the stand-in's two GPUs."""
    two_gpus.set(driver_version=driver_version)
    stand_in_gpu.install(box, two_gpus, cuda)
    # two specifications for the same device would conflict
    box.ssh(f"sudo -n rm {stand_in_gpu.SPECIFICATION}")
    nodes = "mknod -m 666 /dev/nvidiactl c 1 3; mknod -m 666 /dev/nvidia-uvm c 1 5"
    smi = f"[ ! -e {SMI} ] || mv {SMI} {SMI}.real; cp {stand_in_gpu.SMI_PATH} {SMI}"
    box.ssh(f"sudo -n sh -c '{nodes}; {smi}; mkdir -p {DROP_IN}'")
    box.ssh(f"sudo -n tee {DROP_IN}/stand-in.conf >/dev/null", stdin=STAND_IN)
    box.ssh(f"sudo -n sh -c 'systemctl daemon-reload; systemctl start {UNIT}'", timeout_s=600)
    import_image(box)
    yield box
    stand_in_gpu.remove(box)
    smi = f"rm -f {SMI}; [ ! -h {SMI}.real -a ! -e {SMI}.real ] || mv {SMI}.real {SMI}"
    box.ssh(f"sudo -n sh -c 'rm -rf {FILE} {DROP_IN} /dev/nvidiactl /dev/nvidia-uvm; {smi}; systemctl daemon-reload'")
    box.ssh(f"docker rmi -f {TAG}", timeout_s=900)


def opened(box, *names):
    """Return the stand-in GPUs that can be opened in a container which the user starts with these CDI devices."""
    devices = " ".join(f"--device nvidia.com/gpu={name}" for name in names)
    run = f"docker run --rm --network none {devices} {TAG} /bin/sh -c '{OPENS}'"
    return box.ssh(run, timeout_s=900).stdout.split()


def test_without_a_card_the_unit_is_skipped(box, applied):
    assert applied.returncode == 0, applied.stderr
    assert box.ssh(f"systemctl is-failed {UNIT}", check=False).stdout.strip() == "inactive"
    assert box.ssh("systemctl is-active vault-cube-cdi.path").stdout.strip() == "active"
    assert box.ssh("systemctl list-units --failed --no-legend 'vault-cube-cdi*'").stdout.strip() == ""
    assert box.ssh(f"test -e {FILE}", check=False).returncode != 0


def test_the_user_s_containers_get_the_gpus_by_index_and_by_uuid(written, two_gpus):
    second = two_gpus.state["gpus"][1]["uuid"]
    assert opened(written) == []
    assert opened(written, "0") == ["0"]
    assert opened(written, second) == ["1"]
    assert opened(written, "0", second) == ["0", "1"]
    assert opened(written, "all") == ["0", "1"]


def test_layer_check_passes_with_the_box_s_own_specification(written):
    checks, status = verdicts(written)
    wanted = [outcomes.name(check) for check in runtime.CHECKS]
    assert {check: checks[check][0] for check in wanted} == dict.fromkeys(wanted, "ok"), checks
    assert status == 0


def test_a_library_installed_later_is_available_in_containers(written, driver_version, stand_in_library):
    library = stand_in_library("libnvidia-later.so.1")
    stand_in_gpu.copy(written, library, f"{FOLDER}/libnvidia-later.so.{driver_version}")
    try:
        written.ssh("sudo -n ldconfig", timeout_s=600)
        for _ in range(60):
            if written.ssh(f"grep -q libnvidia-later.so.1 {FILE}", check=False).returncode == 0:
                break
            time.sleep(2)
        run = f"docker run --rm --network none --device nvidia.com/gpu=0 {TAG} /bin/cat {FOLDER}/libnvidia-later.so.1"
        assert written.ssh(f"{run} | wc -c", timeout_s=900).stdout.strip() == str(library.stat().st_size)
    finally:
        written.ssh(f"sudo -n sh -c 'rm -f {FOLDER}/libnvidia-later.so*; ldconfig'", timeout_s=600)


def test_without_an_answer_of_the_driver_the_specification_is_removed(written, two_gpus):
    two_gpus.set(error={"nvmlInitWithFlags": 18})
    try:
        written.ssh(f"sudo -n tee {stand_in_gpu.STATE} >/dev/null", stdin=two_gpus.file.read_text())
        assert written.ssh(f"sudo -n systemctl start {UNIT}", timeout_s=600, check=False).returncode != 0
        assert written.ssh(f"test -e {FILE}", check=False).returncode != 0
        assert "reboot" in written.ssh(f"sudo -n journalctl -u {UNIT} -n 20 -o cat").stdout
    finally:
        two_gpus.set(error={"nvmlInitWithFlags": None})
        written.ssh(f"sudo -n tee {stand_in_gpu.STATE} >/dev/null", stdin=two_gpus.file.read_text())
        written.ssh(f"sudo -n systemctl start {UNIT}", timeout_s=600)
    assert opened(written, "all") == ["0", "1"]
