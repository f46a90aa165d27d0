"""The sandbox of our units, as the real `systemd-analyze security` scores it without running them."""

import json
import subprocess

import pytest
from rendered import files, text

# docs/decisions/hardening.md has the scores before the sandbox. 10 is worst
SCORES = {
    "vault-cube-vllm@.service": 2.9,
    "vault-cube-disks.service": 2.9,
    "vault-cube-gpus.service": 2.1,
    "ssh-host-keys.service": 2.0,
}
ALWAYS = ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes")


def score(file):
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--json=short", "--no-pager", str(file)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if ran.returncode == 127 or "unrecognized option" in ran.stderr:
        pytest.skip("needs systemd 250 or later")
    return sum(float(entry["exposure"] or 0) for entry in json.loads(ran.stdout)), ran
