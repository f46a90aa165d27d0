"""cloud-init's own stages with the layer's settings, in a copy-on-write view of this machine.

VAULT_CUBE_CLOUD_INIT: a folder with another cloud-init, unpacked with its dependencies as scripts/unpacked.sh does.
"""

import compileall
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from rendered import files, text

TOP = Path(__file__).parents[4]
UNPACKED = Path(os.environ.get("VAULT_CUBE_CLOUD_INIT", TOP / ".venv/debian"))
DEBIAN = UNPACKED / "usr/lib/python3/dist-packages"
MODULES = TOP / "salt/base/files/cloud"

TREE = """\
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount --rbind "$2" ".$2"
mount -t proc proc proc
mount -t sysfs sysfs sys
ip link add enp1s0 type veth peer name enp2s0
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for node in null zero random urandom; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
touch dev/console
mkdir -p run/systemd/system dev/disk/by-label
[ -z "$5" ] || touch "dev/disk/by-label/$5"
rm -rf var/lib/cloud var/lib/vault-cube etc/cloud etc/systemd/network etc/netplan etc/network
rm -rf etc/sudoers.d/90-cloud-init-users
mkdir -p var/lib/cloud/seed etc/cloud/cloud.cfg.d etc/systemd/network etc/sudoers.d etc/ssh root/.ssh
cp -r "$3/etc/cloud/templates" etc/cloud/
cp "$3/etc/cloud/cloud.cfg" etc/cloud/
cp "$4/settings" etc/cloud/cloud.cfg.d/zz-vault-cube.cfg
cp "$4/settings-monitoring" etc/cloud/cloud.cfg.d/zz-vault-cube-monitoring.cfg
mkdir -p etc/vault-cube/monitoring
cp "$4/prometheus.yml" etc/vault-cube/monitoring/
cp "$4/cloudinit/config/"cc_vault_cube_* run/
[ ! -d "$4/nocloud" ] || cp -r "$4/nocloud" var/lib/cloud/seed/nocloud
printf 'vault-cube\\n' >etc/hostname
printf '%s\\n' '127.0.0.1 localhost' '127.0.1.1 vault-cube' '::1 localhost' '10.0.0.9 models' >etc/hosts
for group in ssh-login sudo docker; do chroot . groupadd -f "$group"; done
# this machine's people are not the box's
for name in $(awk -F: '$3 >= 1000 && $3 < 60000 { print $1 }' etc/passwd); do chroot . userdel --force "$name"; done
rm -rf home/*
chroot . useradd -m -u 1000 -s /bin/bash -G ssh-login,sudo,docker vaultadmin
chroot . hostname vault-cube
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "PYTHONPATH=$4:$3/usr/lib/python3/dist-packages" \\
  "$2/.venv/bin/python" -B "$2/tests/functional/salt/cloud/in_tree.py" ssh-login
"""


@pytest.fixture(scope="session")
def box_files(salt_of):
    """The files of a box that cloud-init reads or writes, as the layers write them: name to text."""
    # compiled once, because each boot imports all of it
    compileall.compile_dir(DEBIAN, quiet=2)
    salt = salt_of("debian-12")
    written = files(salt)
    return {
        "settings": text(salt, written["/etc/cloud/cloud.cfg.d/zz-vault-cube.cfg"]),
        "settings-monitoring": text(salt, written["/etc/cloud/cloud.cfg.d/zz-vault-cube-monitoring.cfg"]),
        "prometheus.yml": text(salt, written["/etc/vault-cube/monitoring/prometheus.yml"]),
    }


@pytest.fixture
def boot(box_files, tmp_path):
    """boot(user_data, meta_data, network_config, label) boots with a seed; user_data None: no seed.

    label: the label of a medium that the machine has.
    """
    if os.geteuid() or not DEBIAN.is_dir() or not shutil.which("unshare"):
        pytest.skip("needs root, and cloud-init below .venv/debian: run `make test`")

    def run(user_data, meta_data="instance-id: box-1\n", network_config=None, label=None):
        package = tmp_path / "cloudinit/config"
        package.mkdir(parents=True)
        # our modules stand in cloud-init's package, as on a box
        (tmp_path / "cloudinit/__init__.py").write_text(f"__path__.append({str(DEBIAN / 'cloudinit')!r})\n")
        init = DEBIAN / "cloudinit/config/__init__.py"
        (package / "__init__.py").write_text(f"__path__.append({str(init.parent)!r})\n{init.read_text()}")
        for file in MODULES.glob("*.py"):
            shutil.copy(file, package)
        for name, content in box_files.items():
            (tmp_path / name).write_text(content)
        if user_data is not None:
            (tmp_path / "nocloud").mkdir()
            (tmp_path / "nocloud/user-data").write_bytes(
                user_data if isinstance(user_data, bytes) else user_data.encode()
            )
            for name, text in (("meta-data", meta_data), ("network-config", network_config)):
                if text is not None:
                    (tmp_path / "nocloud" / name).write_text(text)
        mountpoint = tmp_path / "tree"
        mountpoint.mkdir()
        words = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "sh", "-euc", TREE, "sh"]
        ran = subprocess.run(
            [*words, mountpoint, TOP, UNPACKED, tmp_path, label or ""],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        result = json.loads(ran.stdout.splitlines()[-1])
        result["stderr"] = ran.stderr
        return result

    return run
