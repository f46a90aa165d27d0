"""Gate 3 without a GPU: devices of a stand-in driver in containers of the user, and the verdicts of layer.check.

Uses CDI if the image's Docker supports it (25 and newer: `make test-slow TARGET=debian-13`), else a runtime entry.
"""

import json

import pytest
import stand_in_gpu
from stand_in_gpu import OPENS, verdicts

from vault_cube.image.guest.cases import TAG, import_image

pytestmark = pytest.mark.slow

DAEMON = "/etc/docker/daemon.json"
LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"
CHOSEN = {"packages": ["nvidia-container-toolkit-base"], "provider": "nvidia", "gates": {"gpus": 2, "together": 2}}
CDI = {"mode": "cdi", "cgroup_driver": "systemd"}
RUNTIME = {"mode": "runtime", "cgroup_driver": "cgroupfs"}
KEYS = {
    "cdi": {"features": {"cdi": True}},
    "runtime": {"runtimes": {"nvidia": {"path": stand_in_gpu.RUNTIME_PATH}}},
}


@pytest.fixture(scope="module")
def mode(box):
    version = box.ssh("docker version --format '{{.Server.Version}}'").stdout.strip()
    return CDI if int(version.split(".")[0]) >= 25 else RUNTIME


@pytest.fixture(scope="module")
def gpus(box, mode, two_gpus, cuda):
    """The box with the stand-in driver, and with Docker and the pillar configured for it."""
    before = box.ssh(f"cat {DAEMON}").stdout
    stand_in_gpu.install(box, two_gpus, cuda)
    merged = json.loads(before) | KEYS[mode["mode"]] | {"exec-opts": [f"native.cgroupdriver={mode['cgroup_driver']}"]}
    box.ssh(f"sudo -n tee {DAEMON} >/dev/null", stdin=json.dumps(merged))
    box.ssh(f"sudo -n tee {LOCAL} >/dev/null", stdin=json.dumps({"runtime": {**CHOSEN, **mode}}))
    box.ssh("sudo -n systemctl restart docker", timeout_s=900)
    import_image(box)
    yield box
    stand_in_gpu.remove(box)
    box.ssh(f"sudo -n rm {LOCAL}; docker rmi -f {TAG}", timeout_s=900)
    box.ssh(f"sudo -n tee {DAEMON} >/dev/null", stdin=before)
    box.ssh("sudo -n systemctl restart docker", timeout_s=900)


def given(mode, name):
    """Return the options of `docker run` that give a container a GPU, by number, or `all`."""
    if mode is CDI:
        return f"--device nvidia.com/gpu={name}"
    return f"--runtime nvidia --env NVIDIA_VISIBLE_DEVICES={name}"


def seen(box, options=""):
    """Return the stand-in GPUs that can be opened in a container which the user starts."""
    run = f"docker run --rm --network none {options} {TAG} /bin/sh -c '{OPENS}'"
    return box.ssh(run, timeout_s=900).stdout.split()


def test_a_container_of_the_user_gets_the_requested_gpus(gpus, mode):
    assert gpus.ssh("id -u").stdout.strip() != "0"
    assert seen(gpus) == []
    assert seen(gpus, given(mode, "0")) == ["0"]
    assert seen(gpus, given(mode, "all")) == ["0", "1"]


def test_a_container_cannot_create_a_node_for_another_gpu(gpus, mode):
    major, minor = stand_in_gpu.NODES["1"]
    # not at /usr, where Docker creates mount points for the driver's files
    mknod = "LD_LIBRARY_PATH=/box/lib/x86_64-linux-gnu /box/bin/mknod"
    steal = f"{mknod} /dev/nvidia1 c {major} {minor} && : </dev/nvidia1"
    options = f"--volume /usr:/box:ro {given(mode, '0')}"
    run = f"docker run --rm --network none {options} {TAG} /bin/sh -c '{steal}'"
    done = gpus.ssh(run, timeout_s=1800, check=False)
    assert done.returncode != 0
    assert "not permitted" in done.stdout + done.stderr


def test_a_running_container_keeps_its_gpus_when_systemd_reloads(gpus, mode):
    run = f"docker run -di --name keeps --network none {given(mode, 'all')} {TAG} /bin/cat"
    gpus.ssh(run, timeout_s=900)
    try:
        look = f"docker exec keeps /bin/sh -c '{OPENS}'"
        assert gpus.ssh(look, timeout_s=900).stdout.split() == ["0", "1"]
        gpus.ssh("sudo -n systemctl daemon-reload", timeout_s=900)
        assert gpus.ssh(look, timeout_s=900).stdout.split() == ["0", "1"]
    finally:
        gpus.ssh("docker rm -f keeps", timeout_s=1800, check=False)


def test_layer_check_passes_with_the_gpus_in_containers(gpus, mode):
    checks, status = verdicts(gpus)
    wanted = ["docker configuration", "gpus in a container", "cuda library in a container", "one gpu each together"]
    wanted += ["cdi specification"] if mode is CDI else []
    assert {check: checks[check][0] for check in wanted} == dict.fromkeys(wanted, "ok"), checks
    assert status == 0


@pytest.mark.parametrize(
    ("on", "harm", "evidence"),
    [
        (
            CDI, f"rm {stand_in_gpu.SPECIFICATION}",
            {"cdi specification": "no device nvidia.com/gpu=all", "gpus in a container": "nvidia.com/gpu=all"},
        ),
        (CDI, f"rm {stand_in_gpu.LIBRARY}", {"cdi specification": f"{stand_in_gpu.LIBRARY} does not exist"}),
        (CDI, f"sed -Ei 's/(cdi.: )true/\\1false/' {DAEMON}", {"docker configuration": "features.cdi is not true"}),
        (RUNTIME, f"rm {stand_in_gpu.RUNTIME_PATH}", {"gpus in a container": "nvidia-container-runtime"}),
        (RUNTIME, f"sed -i s/nvidia/other/ {DAEMON}", {"docker configuration": "no runtime is named nvidia"}),
    ],
    ids=["no specification", "a stale specification", "CDI is off", "no runtime", "no runtime's entry"],
)  # fmt: skip
def test_layer_check_reports_a_broken_configuration(gpus, two_gpus, cuda, mode, on, harm, evidence):
    if on is not mode:
        pytest.skip(f"this image's Docker gives GPUs by {mode['mode']}")
    before = gpus.ssh(f"cat {DAEMON}").stdout
    try:
        gpus.ssh(f"sudo -n {harm}")
        checks, status = verdicts(gpus)
        assert status == 2
        for check, text in evidence.items():
            assert checks[check][0] == "fault", checks
            assert text in checks[check][1]
    finally:
        stand_in_gpu.install(gpus, two_gpus, cuda)
        gpus.ssh(f"sudo -n tee {DAEMON} >/dev/null", stdin=before)
    assert seen(gpus, given(mode, "all")) == ["0", "1"]
