"""drift.report finds nothing after the first boot, a reboot, a day of use, and a security update. In this order."""

import base64
import os
import subprocess
from pathlib import Path

import pytest
from lasting import LIMIT_S, apply, drift, root

from vault_cube.image.guest.cases import TAG, import_image

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]

BY_THE_USER = """\
set -eu
mkdir -p ~/project ~/.cache/pip ~/.config/x
echo "alias ll='ls -l'" >> ~/.bashrc
head -c 5000000 /dev/urandom > ~/project/weights.bin
ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
python3 -c 'print("work")' > ~/project/log
sudo -n true
docker volume create data >/dev/null
docker network create own >/dev/null
docker run -d --restart unless-stopped --network own -v data:/data -v /usr:/usr:ro -p 8081:8000 --name web \\
  {tag} /usr/bin/python3 -m http.server 8000 >/dev/null
docker run --rm {tag} /bin/sh -c 'echo container' >/dev/null
"""
BY_ROOT = """\
mkdir -p /var/lib/vault-cube/models/tiny /srv/models
head -c 5000000 /dev/urandom > /var/lib/vault-cube/models/tiny/model.safetensors
cp /var/lib/vault-cube/models/tiny/model.safetensors /srv/models
for n in $(seq 500); do echo "line $n"; done | systemd-cat --identifier=work
journalctl --rotate
logrotate --force /etc/logrotate.conf
"""
# the services of all timers, after a day; each may fail without a network
A_DAY = """\
date --set='+26 hours' >/dev/null
for unit in $(systemctl list-unit-files --type=timer --state=enabled,static --no-legend --plain | cut -d' ' -f1); do
  case $unit in *@*) continue ;; esac
  systemctl start "$(systemctl show --property=Unit --value "$unit")" || echo "$unit"
done
"""
UPDATED = ("less", "nano")
ARCHIVE = "/var/tmp/stand-in"
KEYRING, SOURCE = "/etc/apt/keyrings/stand-in.gpg", "/etc/apt/sources.list.d/stand-in.list"
LOCAL = f"""\
validation:
  drift:
    expected: {{{KEYRING}: stand-in, {SOURCE}: stand-in}}
"""
INSTALL = f"""\
mkdir -p /etc/apt/keyrings
base64 --decode > {KEYRING} <<'END'
%(key)s
END
cat > {ARCHIVE}/www/dists/bookworm-security/InRelease <<'END'
%(release)s
END
echo 'deb [signed-by={KEYRING}] http://127.0.0.1:8099 bookworm-security main' > {SOURCE}
cat > /opt/vault-cube/checkout/pillar/local.sls <<'END'
{LOCAL}END
systemd-run --quiet --unit=stand-in-archive --working-directory={ARCHIVE}/www \\
  python3 -m http.server --bind 127.0.0.1 8099
rm -f /var/lib/apt/periodic/*
systemctl start apt-daily.service
systemctl start apt-daily-upgrade.service
systemctl stop stand-in-archive.service
dpkg-query --show --showformat='${{Package}} ${{Version}} ${{db:Status-Status}}\\n' {" ".join(UPDATED)}
"""


def signed(release, folder):
    """Sign a Release file with a new key. Returns the InRelease file and the public key in base64."""
    (folder / "Release").write_text(release + "\n")
    options = ["gpg", "--homedir", folder, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
    subprocess.run([*options, "--quick-gen-key", "stand-in", "rsa3072", "sign", "1y"], check=True, capture_output=True)
    try:
        subprocess.run([*options, "--clearsign", folder / "Release"], check=True, capture_output=True)
        key = subprocess.run([*options, "--export"], check=True, capture_output=True).stdout
    finally:
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)
    return (folder / "Release.asc").read_text(), base64.encodebytes(key).decode()


@pytest.fixture
def gpg_home(tmp_path_factory):
    import tempfile

    with tempfile.TemporaryDirectory(prefix="vc-gpg-", dir="/tmp") as folder:  # its socket needs a short path
        yield Path(folder)


def test_after_the_first_boot(disk):
    assert drift(disk.start())[1] == []


def test_after_a_reboot(disk):
    assert drift(disk.reboot())[1] == []


def test_after_a_day_of_use(disk):
    box = disk.box
    import_image(box)
    box.ssh("sh -s", stdin=BY_THE_USER.format(tag=TAG), timeout_s=LIMIT_S)
    root(box, BY_ROOT, LIMIT_S)
    print(root(box, A_DAY, LIMIT_S))
    assert drift(box)[1] == []
    box = disk.reboot()
    assert box.ssh("docker ps --format '{{.Names}}'").stdout.split() == ["web"]
    assert drift(box)[1] == []


def test_after_a_security_update(disk, gpg_home):
    box = disk.box
    script = Path(__file__).with_name("stand_in_update.py").read_text()
    # -c, because stdin is the script
    root(box, f"mkdir -p {ARCHIVE}\ncat > {ARCHIVE}/make.py <<'END'\n{script}\nEND\n")
    release, key = signed(root(box, f"python3 {ARCHIVE}/make.py {ARCHIVE} {' '.join(UPDATED)}"), gpg_home)
    before = drift(box)[0]
    printed = root(box, INSTALL % {"release": release, "key": key}, LIMIT_S)
    versions = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert {name: versions[name][0].endswith("+deb12u99") for name in UPDATED} == dict.fromkeys(UPDATED, True), printed
    report, findings = drift(box)
    assert findings == []
    updates = [each for each in report["expected"] if each["what"].endswith(tuple(f"{name}:amd64" for name in UPDATED))]
    assert len(updates) == len(UPDATED), report["expected"]
    assert not [each for each in before["expected"] if each in updates]
    assert apply(box) == ({}, [])
    assert drift(disk.reboot())[1] == []


def test_a_changed_file_of_the_update_is_drift(disk):
    root(disk.box, "echo x >> /usr/bin/less")
    findings = drift(disk.box)[1]
    assert findings
    assert all("less" in finding[1] for finding in findings)
