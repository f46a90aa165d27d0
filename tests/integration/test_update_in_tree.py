"""drift.report in the image's tree after a security update by unattended-upgrades, and with the files of a day."""

import json
import os
import tempfile
from pathlib import Path

import pytest
import stand_in_update
import test_layers_in_tree as in_tree

pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]
# the fixtures of that file
space, trees, inside = in_tree.space, in_tree.trees, in_tree.inside

UPDATED = ("less", "nano")
ARCHIVE = "/var/tmp/stand-in"
REPORT = "salt-call --local --log-level=quiet --out=json drift.report || :\n"
USE = """\
head -c 3000000 /dev/urandom > /var/lib/vault-cube/models.bin
mkdir -p /srv/models /home/vaultadmin/project /home/vaultadmin/.cache/pip
cp /var/lib/vault-cube/models.bin /srv/models/model.safetensors
echo 'alias ll=ls' >> /home/vaultadmin/.bashrc
touch /home/vaultadmin/project/notes
echo line > /var/log/work.log
logrotate --force /etc/logrotate.conf 2>/dev/null || :
"""
UPGRADE = f"""\
ip link set lo up
cd {ARCHIVE}/www
python3 -m http.server --bind 127.0.0.1 {stand_in_update.PORT} >/dev/null 2>&1 &
server=$!
{stand_in_update.SERVED}# the archives of the image cannot be reached
apt-get -q -o Acquire::Retries=0 update >/dev/null 2>&1 || :
unattended-upgrade >/dev/null 2>&1
kill $server
dpkg-query --show --showformat='${{Package}} ${{Version}} ${{db:Status-Status}}\\n' {" ".join(UPDATED)}
echo ===
"""


@pytest.fixture
def run(inside):
    """run(script) runs a shell script in the tree, which must succeed. Returns its output."""

    def call(script):
        status, output = inside(["sh", "-euc", script])
        assert status == 0, output[-2000:]
        return output.strip()

    return call


def report(output):
    return json.loads(output[output.index("{") :])["local"]


def test_a_day_of_use_and_a_security_update_are_no_drift(run):
    assert report(run(f"{USE}{REPORT}"))["findings"] == []
    release = run(stand_in_update.made(ARCHIVE, UPDATED))
    with tempfile.TemporaryDirectory(prefix="vc-gpg-", dir="/tmp") as home:  # gpg's socket needs a short path
        add = stand_in_update.added(ARCHIVE, *stand_in_update.signed(release, Path(home)))
    versions, _, text = run(f"{add}{UPGRADE}{REPORT}").partition("===\n")
    assert versions.count("+deb12u99 installed") == len(UPDATED), versions
    result = report(text)
    assert result["findings"] == []
    assert {f"package {name}:amd64" for name in UPDATED} <= {each["what"] for each in result["expected"]}, result[
        "expected"
    ]
    changed = report(run(f"echo x >> /usr/bin/less\n{REPORT}"))["findings"]
    assert changed
    assert all("less" in finding["what"] for finding in changed)
