"""Gate 3 without a GPU: CDI devices of a stand-in driver in containers of the user, and what layer.check says of them.

Needs an image whose Docker knows CDI (25 and newer: debian-13): VAULT_CUBE_TARGET=debian-13 make test-image
"""

import json

import pytest
import stand_in_gpu

from vault_cube.image.boot_cases import IMPORT, TAG

pytestmark = pytest.mark.image

DAEMON = "/etc/docker/daemon.json"
LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"
CHOSEN = {
    "packages": ["nvidia-container-toolkit-base"], "provider": "nvidia", "mode": "cdi", "cgroup_driver": "systemd",
    "gates": {"gpus": 2, "together": 2},
}  # fmt: skip
OPENS = "for n in 0 1; do (: </dev/nvidia$n) 2>/dev/null && echo $n; done; true"


@pytest.fixture(scope="module")
def gpus(box):
    """The box with the stand-in driver, its Docker told of CDI, its pillar told of the runtime."""
    version = box.ssh("docker version --format '{{.Server.Version}}'").stdout.strip()
    if int(version.split(".")[0]) < 25:
        pytest.skip(f"Docker {version} has no CDI")
    before = box.ssh(f"cat {DAEMON}").stdout
    stand_in_gpu.install(box)
    merged = json.loads(before) | {"features": {"cdi": True}, "exec-opts": ["native.cgroupdriver=systemd"]}
    box.ssh(f"sudo -n tee {DAEMON} >/dev/null", stdin=json.dumps(merged))
    box.ssh(f"sudo -n tee {LOCAL} >/dev/null", stdin=json.dumps({"runtime": CHOSEN}))
    box.ssh("sudo -n systemctl restart docker", timeout_s=300)
    box.ssh(IMPORT, timeout_s=300)
    yield box
    stand_in_gpu.remove(box)
    box.ssh(f"sudo -n rm {LOCAL}; docker rmi -f {TAG}", timeout_s=300)
    box.ssh(f"sudo -n tee {DAEMON} >/dev/null", stdin=before)
    box.ssh("sudo -n systemctl restart docker", timeout_s=300)


def seen(box, *devices):
    """The stand-in GPUs that open in a container which the user starts."""
    given = " ".join(f"--device nvidia.com/gpu={name}" for name in devices)
    run = f"docker run --rm --network none {given} {TAG} /bin/sh -c '{OPENS}'"
    return box.ssh(run, timeout_s=300).stdout.split()


def verdicts(box):
    """layer.check runtime: {case: (status, evidence)} and its exit code."""
    call = "sudo -n salt-call --local --log-level=quiet --out=json layer.check runtime"
    done = box.ssh(call, timeout_s=900, check=False)
    cases = json.loads(done.stdout)["local"]["cases"]
    return {case["case"]: (case["status"], case["evidence"]) for case in cases}, done.returncode


def test_the_user_gives_a_container_the_gpus_that_he_asks_for(gpus):
    assert gpus.ssh("id -u").stdout.strip() != "0"
    assert seen(gpus) == []
    assert seen(gpus, "0") == ["0"]
    assert seen(gpus, "all") == ["0", "1"]


def test_a_container_cannot_make_itself_another_gpu(gpus):
    major, minor = stand_in_gpu.NODES["1"]
    steal = f"/usr/bin/mknod /dev/nvidia1 c {major} {minor} && : </dev/nvidia1"
    given = "--volume /usr:/usr:ro --device nvidia.com/gpu=0"
    run = f"docker run --rm --network none {given} {TAG} /bin/sh -c '{steal}'"
    done = gpus.ssh(run, timeout_s=300, check=False)
    assert done.returncode != 0
    assert "not permitted" in done.stdout + done.stderr


def test_a_running_container_keeps_its_gpus_when_systemd_reloads(gpus):
    gpus.ssh(f"docker run -di --name keeps --network none --device nvidia.com/gpu=all {TAG} /bin/cat", timeout_s=300)
    try:
        look = f"docker exec keeps /bin/sh -c '{OPENS}'"
        assert gpus.ssh(look, timeout_s=300).stdout.split() == ["0", "1"]
        gpus.ssh("sudo -n systemctl daemon-reload", timeout_s=300)
        assert gpus.ssh(look, timeout_s=300).stdout.split() == ["0", "1"]
    finally:
        gpus.ssh("docker rm -f keeps", timeout_s=300, check=False)


def test_layer_check_passes_with_the_gpus_in_containers(gpus):
    cases, status = verdicts(gpus)
    wanted = ("Docker's configuration", "CDI specification", "GPUs in a container", "one GPU each, together")
    assert {case: cases[case][0] for case in wanted} == dict.fromkeys(wanted, "passed"), cases
    assert status == 0


@pytest.mark.parametrize(
    ("harm", "case", "says"),
    [
        (f"rm {stand_in_gpu.SPECIFICATION}", "CDI specification", "no device nvidia.com/gpu=all"),
        (f"rm {stand_in_gpu.LIBRARY}", "CDI specification", f"{stand_in_gpu.LIBRARY} is gone"),
        (f'sed -i \'s/"cdi": true/"cdi": false/\' {DAEMON}', "Docker's configuration", "features.cdi is not true"),
    ],
    ids=["no specification", "a stale specification", "CDI switched off"],
)
def test_what_is_broken_is_told(gpus, harm, case, says):
    try:
        gpus.ssh(f"sudo -n {harm}")
        cases, status = verdicts(gpus)
        assert status == 1
        assert cases[case][0] == "failed", cases
        assert says in cases[case][1]
    finally:
        stand_in_gpu.install(gpus)
        gpus.ssh(f'sudo -n sed -i \'s/"cdi": false/"cdi": true/\' {DAEMON}')
    assert seen(gpus, "all") == ["0", "1"]
