"""Layer base in a real Debian 12 tree, applied offline by the builder's own code and examined without Salt."""

import json
import os
from pathlib import Path

import pytest
from base_tree import TOP, Box, workspace
from distribution_files import FOLDERS, losing

pytestmark = [
    pytest.mark.chroot,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a root tree: needs root"),
]


@pytest.fixture(scope="module")
def space():
    return workspace()


@pytest.fixture(scope="module")
def base(space):
    return space.settings.base


@pytest.fixture(scope="module")
def box(space):
    """The tree after its first apply, in the cache's scratch folder, whose file system supports overlays."""
    with space.scratch("test-base") as folder:
        tree = Box(space, folder)
        # a dry run also works on a tree without the layer; only states of services fail, because they need systemd
        failed, _ = tree.apply("test=True")
        assert {name: why for name, why in failed.items() if "systemctl" not in why} == {}
        failed, changed = tree.apply()
        assert failed == {}
        assert len(changed) > 40, "the tree was not new"
        yield tree


# ---- idempotence: these tests come first, because they need the unchanged tree


def test_a_second_apply_changes_nothing(box):
    assert box.apply() == ({}, set())


def test_a_dry_run_reports_no_changes(box):
    assert box.apply("test=True") == ({}, set())


# ---- users


def test_people_and_services_have_the_pillar_s_ids(box, base):
    people = {line.split(":")[0]: line.split(":") for line in box.sh("cat /etc/passwd").splitlines()}
    groups = {line.split(":")[0]: line.split(":") for line in box.sh("cat /etc/group").splitlines()}
    for name, user in base.users.items():
        assert people[name][2:4] == [str(user.uid), str(user.gid)]
        assert people[name][6] == user.shell
        assert all(name in groups[group][3].split(",") for group in user.groups)
    for name, account in base.system_users.items():
        assert people[name][2:4] == [str(account.uid), groups[account.group][2]]
        assert people[name][6] == "/usr/sbin/nologin"
    assert {name: groups[name][2] for name in base.system_groups} == {
        name: str(gid) for name, gid in base.system_groups.items()
    }
    # no package allocated an id: all other accounts have the fixed ids of Debian's base-passwd
    allocated = {name for name, fields in people.items() if 100 <= int(fields[2]) < 60000}
    assert allocated == {*base.users, *base.system_users}
    assert {name for name, fields in groups.items() if 100 < int(fields[2]) < 60000} == {
        *base.users,
        *base.system_groups,
    }


def test_no_account_has_a_password_or_a_key(box):
    shadow = [line.split(":") for line in box.sh("cat /etc/shadow").splitlines()]
    assert {fields[0] for fields in shadow if fields[1][:1] not in ("!", "*")} == set()
    assert box.sh("find /etc /home /root /var -name 'authorized_keys*'") == ""


def test_sudo_s_files_are_valid_and_need_no_password(box, base):
    assert "parsed OK" in box.sh("visudo -c")
    name = next(iter(base.users))
    assert box.sh(f"su -s /bin/sh {name} -c 'sudo -n id -u'") == "0"
    assert box.sh("stat -c '%a %U' /etc/sudoers.d/99-*") == "440 root"


# ---- ssh


def test_sshd_accepts_keys_only(box, base):
    settings = dict(
        line.partition(" ")[::2] for line in box.sh("mkdir -p /run/sshd; sshd -t; sshd -T").splitlines()
    )  # fmt: skip
    wanted = {
        "passwordauthentication": "no", "kbdinteractiveauthentication": "no", "permitrootlogin": "no",
        "permitemptypasswords": "no", "pubkeyauthentication": "yes", "authenticationmethods": "publickey",
        "x11forwarding": "no", "allowagentforwarding": "no", "allowtcpforwarding": "no",
        "allowstreamlocalforwarding": "no", "permittunnel": "no", "gatewayports": "no", "maxauthtries": "3",
        "allowgroups": base.ssh.group, "port": str(base.ssh.port), "ciphers": ",".join(base.ssh.ciphers),
        "macs": ",".join(base.ssh.macs), "kexalgorithms": ",".join(base.ssh.key_exchange),
        "hostkeyalgorithms": ",".join(base.ssh.host_key_algorithms), "disableforwarding": "yes",
        **{keyword.lower(): value for keyword, value in base.ssh.settings.items()},
    }  # fmt: skip
    assert {key: settings.get(key) for key in wanted} == wanted
    assert box.sh(f"cat {settings['banner']}") == base.ssh.banner


def test_a_later_drop_in_cannot_weaken_it(box):
    weaker = "PasswordAuthentication yes\\nPermitRootLogin yes\\n"
    output = box.sh(
        f"mkdir -p /run/sshd; printf '{weaker}' > /etc/ssh/sshd_config.d/50-cloud-init.conf; sshd -T;"
        "rm /etc/ssh/sshd_config.d/50-cloud-init.conf"
    )
    assert "passwordauthentication no" in output
    assert "permitrootlogin no" in output


# ---- the firewall, loaded in the tree's network namespace and tested from another one


def test_only_allowed_ports_are_open_and_docker_opens_no_others(box, base):
    probe = box.folder / "vault-cube/firewall_probe.py"
    probe.write_bytes((TOP / "tests/integration/firewall_probe.py").read_bytes())
    status, output = box.run(["python3", "/run/vault-cube/firewall_probe.py", str(base.ssh.port), "8081"])
    assert status == 0, output
    connections = json.loads(output.splitlines()[-1])
    ssh, both = str(base.ssh.port), {str(base.ssh.port): True, "8081": True}
    # without the firewall all ports are open, so a closed one proves that the firewall works
    assert connections.pop("before") == both
    assert connections.pop("published before") is True
    assert connections == {
        "4": {ssh: True, "8081": False},
        "6": {ssh: True, "8081": False},
        "inside": both,
        "out": True,
        "policy": "-P INPUT DROP",
        "policy 6": "-P INPUT DROP",
        "published": False,
        "published after Docker's restart": False,
        "published, allowed by name": True,
    }


def test_the_firewall_is_enabled_at_boot(box):
    settings = dict(
        line.split("=", 1) for line in box.sh("cat /etc/ufw/ufw.conf /etc/default/ufw").splitlines() if "=" in line
    )
    assert settings["ENABLED"] == "yes"
    assert settings["IPV6"] == "yes"
    assert settings["DEFAULT_INPUT_POLICY"] == settings["DEFAULT_FORWARD_POLICY"] == '"DROP"'
    assert settings["DEFAULT_OUTPUT_POLICY"] == '"ACCEPT"'


# ---- services


def test_fail2ban_has_its_jail_and_reads_the_journal(box, base):
    output = box.sh("fail2ban-client -t 2>&1; fail2ban-client -d 2>/dev/null; python3 -c 'import systemd.journal'")
    assert "configuration test is successful" in output
    assert "['add', 'sshd', 'systemd']" in output
    assert f"['set', 'sshd', 'maxretry', {base.fail2ban.failures}]" in output
    assert f"['set', 'sshd', 'findtime', '{base.fail2ban.within_s}']" in output
    assert f"['set', 'sshd', 'bantime', '{base.fail2ban.ban_s}']" in output
    assert "'_SYSTEMD_UNIT=ssh.service', '+', '_COMM=sshd', '+', '_COMM=sshd-session'" in output


def test_docker_has_the_settings_of_the_layer(box, base):
    daemon = json.loads(box.sh("cat /etc/docker/daemon.json"))
    assert daemon["log-opts"] == {"max-size": "100m", "max-file": "3"}
    assert daemon["live-restore"] is True
    assert daemon["ip"] == "127.0.0.1"
    box.sh("for p in docker dockerd containerd runc iptables apparmor_parser; do command -v $p; done")


def test_units_are_enabled(box, base):
    output = box.sh(f"systemctl --root=/ is-enabled {' '.join(base.units)} ssh-host-keys.service")
    assert set(output.splitlines()) == {"enabled"}


def test_unattended_upgrades_install_security_updates_and_never_the_kernel(box, base):
    output = box.sh("apt-config dump Unattended-Upgrade; apt-config dump APT::Periodic")
    values = [line.split(" ", 1) for line in output.splitlines()]
    origins = [value.strip('";') for key, value in values if "Origins-Pattern::" in key or "Allowed-Origins::" in key]
    never = [value.strip('";') for key, value in values if "Package-Blacklist::" in key]
    assert (origins, never) == (base.updates.origins, base.updates.never)
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in output
    assert 'APT::Periodic::Unattended-Upgrade "1";' in output
    assert box.sh("apt-mark showhold") == base.kernel.package
    # evaluated by unattended-upgrades' own code: it skips all packages on the list, but not openssl
    script = (
        "import importlib.machinery, importlib.util, re, sys\n"
        "loader = importlib.machinery.SourceFileLoader('uu', '/usr/bin/unattended-upgrade')\n"
        "uu = importlib.util.module_from_spec(importlib.util.spec_from_loader('uu', loader))\n"
        "sys.modules['uu'] = uu; loader.exec_module(uu)\n"
        "import apt_pkg; apt_pkg.init_config()\n"
        "never = apt_pkg.config.value_list('Unattended-Upgrade::Package-Blacklist')\n"
        "print([n for n in sys.argv[1:] if uu.is_pkgname_in_blacklist(n, never)])"
    )
    names = [base.kernel.package, "docker.io", "containerd", "runc", "nvidia-utils-580", "libcuda1", "openssl"]
    (box.folder / "vault-cube/never.py").write_text(script)
    output = box.sh(f"python3 /run/vault-cube/never.py {' '.join(names)}")
    assert output.splitlines()[-1] == str(names[:-1])


def test_the_kernel_settings_of_the_pillar_override_all_others(box, base):
    output = box.sh("systemd-analyze cat-config sysctl.d")
    last = dict(
        (part.strip().lstrip("-") for part in line.split("=", 1))
        for line in output.splitlines()
        if "=" in line and not line.startswith(("#", ";"))
    )
    assert {key: last[key] for key in base.kernel.sysctl} == base.kernel.sysctl
    assert last.get("net.ipv4.ip_forward") != "0"


def test_cloud_init_does_not_configure_what_a_state_configures(box, base):
    script = (
        "import json; from cloudinit import util;print(json.dumps(util.read_conf_with_confd('/etc/cloud/cloud.cfg')))"
    )
    config = json.loads(box.sh(f'python3 -c "{script}"').splitlines()[-1])
    assert config["datasource_list"] == ["NoCloud", "None"] or config["datasource_list"] == ["NoCloud", None]
    user = config["system_info"]["default_user"]
    assert (user["name"], user["lock_passwd"]) == (next(iter(base.users)), True)
    assert config["network"] == {"config": "disabled"}
    assert config["preserve_hostname"] is False
    assert config["apt"]["preserve_sources_list"] is True
    assert config["ssh_deletekeys"] is False
    # passwords and the growing of the root are not cloud-init's, so it does not run these modules
    modules = [name for stage in ("init", "config", "final") for name in config[f"cloud_{stage}_modules"]]
    assert not {"set_passwords", "growpart", "resizefs", "locale", "timezone"} & set(modules)
    listed = box.sh("ls /usr/lib/python3/dist-packages/cloudinit/config")
    assert all(f"cc_{name}.py" in listed.split() for name in modules)


def test_virtual_environments_can_be_made_with_venv_and_uv(box):
    box.sh("d=$(mktemp -d); python3 -m venv $d/a; $d/a/bin/python -c 'import ssl'")
    box.sh("d=$(mktemp -d); uv venv -q --offline --python /usr/bin/python3 $d/b; $d/b/bin/python -c 'import ssl'")
    assert "exec /opt/vault-cube/salt/bin/salt-call" in box.sh("cat /usr/local/bin/salt-call")


def test_time_zone_host_name_and_journal_size_follow_the_pillar(box, base):
    assert box.sh("date +%Z") == "UTC"
    assert box.sh("readlink /etc/localtime") == f"/usr/share/zoneinfo/{base.timezone}"
    assert box.sh("cat /etc/hostname") == base.hostname
    assert f"SystemMaxUse={base.logs.journal_mb}M" in box.sh("systemd-analyze cat-config systemd/journald.conf")


def test_the_layer_s_own_units_are_valid(box):
    status, output = box.run(["systemd-analyze", "verify", "/etc/systemd/system/ssh-host-keys.service"])
    assert status == 0, output
    assert "ssh-host-keys" not in output, output
    # the whole boot, including the units of packages
    output = box.run(["systemd-analyze", "verify", "--man=no", "multi-user.target"])[1]
    assert "ordering cycle" not in output, output
    # only the syntax is checked, because the labels are on a disk that does not exist here
    assert "0 parse errors" in box.run(["findmnt", "--verify", "--tab-file", "/etc/fstab"])[1]


def test_no_file_of_the_layer_is_overridden_by_a_package_s_file(box):
    ours = [Path(file) for file in box.sh("grep -rl 'written by salt/' /etc").splitlines()]
    packaged = [Path(file) for file in box.sh("cat /var/lib/dpkg/info/*.list").splitlines()]
    lost = {}
    for folder, rule in FOLDERS.items():
        places = [folder, *rule.get("beside", ())]
        theirs = {file.name for file in packaged if str(file.parent) in places and "README" not in file.name}
        theirs = {name for name in theirs if "suffixes" not in rule or Path(name).suffix in rule["suffixes"]}
        lost |= {str(file): losing(folder, file.name, theirs) for file in ours if str(file.parent) == folder}
    assert len(lost) > 10
    assert {file: names for file, names in lost.items() if names} == {}


def test_the_initial_ram_disk_does_not_depend_on_the_builder(box):
    make = "update-initramfs -u -k all >/dev/null 2>&1; sha256sum /boot/initrd.img-*"
    # hides the builder's hardware in /proc behind other files; the mounts end with the command
    other = (
        "printf 'Filename Type Size Used Priority\\n/dev/sda2 partition 8388604 0 -2\\n' >/tmp/swaps; "
        "printf 'vendor_id\\t: AuthenticAMD\\n' >/tmp/cpuinfo; "
        "for name in swaps cpuinfo; do mount --bind /tmp/$name /proc/$name; done; "
    )
    here = box.sh(make)
    assert box.sh(other + make) == here
    # without the layer's settings it does depend on the builder
    settings = "/etc/initramfs-tools/conf.d/zz-vault-cube"
    box.sh(f"cp -p {settings} /etc/settings")
    try:
        assert box.sh(f"rm {settings}; {other}{make}") != here
    finally:
        box.sh(f"mv /etc/settings {settings}")
    assert box.sh(make) == here


def test_the_initial_ram_disk_checks_the_root(box):
    """Without fsck in it, systemd checks the mounted root after a power cut, and reboots once more."""
    files = box.sh("lsinitramfs /boot/initrd.img-*").splitlines()
    assert {"fsck", "fsck.ext4", "logsave"} <= {Path(file).name for file in files}


def test_the_states_leave_no_backup_files(box):
    left = box.sh("find /etc -name '*.bak' -o -name '*.orig' -o -name '*.dpkg-dist' -o -name '*.ucf-dist'")
    # a backup by systemd-resolved, which the seal removes
    assert set(left.splitlines()) <= {"/etc/.resolv.conf.systemd-resolved.bak"}
    assert box.sh("ls /etc/salt") == "minion"


def test_all_checks_of_the_layer_pass(box):
    status, result = box.salt("layer.check", "base", whole=True)
    assert [check for check in result["checks"] if check["status"] not in ("ok", "not applicable")] == []
    assert (status, result["verdict"]) == (0, "ok")


# ---- drift and other pillars: these tests come last, because they change the tree

DRIFT = {
    "vaultadmin may become root": "printf 'vaultadmin ALL=(ALL) ALL\\n' > /etc/sudoers.d/99-vaultadmin",
    "ssh accepts keys only": "rm /etc/ssh/sshd_config.d/00-vault-cube.conf",
    "ufw is on at boot": "sed -i s/ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf",
    "nothing comes in, everything goes out": "sed -i s/DROP/ACCEPT/ /etc/default/ufw",
    "ports that are open, IPv6": "sed -i 's/dport 22 /dport 23 /' /etc/ufw/user6.rules",
    "published container ports obey the firewall, IPv4": "sed -i '/-j DROP/d' /etc/ufw/after.rules",
    "who fails at ssh is shut out": "sed -i 's/^enabled.*/enabled = false/' /etc/fail2ban/jail.d/00-vault-cube.local",
    "fail2ban.service is on": "systemctl --root=/ disable fail2ban.service",
    "docker.service is on": "systemctl --root=/ mask docker.service",
    "the kernel is held": "apt-mark unhold linux-image-cloud-amd64",
    "kernel settings": "rm /etc/sysctl.d/99-vault-cube.conf",
    "the box's name": "echo other > /etc/hostname",
    "the time zone": "ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime",
    "vaultadmin has an account without a password": "gpasswd -d vaultadmin docker",
    "the root file system is found by its label and grows": "sed -i '/LABEL=root/d' /etc/fstab",
    "the box resolves its own name": "printf '10.0.0.9 models\\n' > /etc/hosts",
    "Docker keeps logs small, containers alive and ports private":
        "printf '{\"ip\": \"0.0.0.0\", \"features\": {\"cdi\": true}}' > /etc/docker/daemon.json",
    "an empty password does not log in": "sed -i 's/pam_unix.so/pam_unix.so nullok/' /etc/pam.d/common-auth",
    "su is for members of sugroup": "sed -i '/use_uid/d' /etc/pam.d/su",
    "new accounts have the pillar's HOME_MODE": "sed -i 's/^HOME_MODE.*/HOME_MODE 0777/' /etc/login.defs",
    "new accounts have the pillar's PASS_MIN_DAYS": "sed -i 's/^PASS_MIN_DAYS.*/PASS_MIN_DAYS 0/' /etc/login.defs",
    "new accounts have the pillar's SHA_CRYPT_MIN_ROUNDS": "sed -i '/^SHA_CRYPT_MIN_ROUNDS/d' /etc/login.defs",
    "the home of vaultadmin has the pillar's mode": "chmod 755 /home/vaultadmin",
    "sessions write no core files": "rm /etc/security/limits.d/60-vault-cube.conf",
    "sudo logs commands to a file": "rm /etc/sudoers.d/zz-vault-cube-log",
    "temporary files are mounted without devices and setuid": "sed -i s/nosuid,nodev,mode/mode/ /etc/fstab",
    "/usr/bin/chfn has no setuid and no setgid": "chmod u+s /usr/bin/chfn",
    "/usr/bin/newgrp has no setuid and no setgid": "dpkg-statoverride --remove /usr/bin/newgrp",
    "containerd does not serve Kubernetes": "sed -i '/^disabled_plugins/d' /etc/containerd/config.toml",
    "modules that the box never needs are blocked": "echo > /etc/modprobe.d/vault-cube.conf",
    "names are resolved without strangers of the local network": "rm -r /etc/systemd/resolved.conf.d",
    "only root reads sshd's own file": "chmod 644 /etc/ssh/sshd_config",
    "cloud-init has the module vault_cube_report":
        "rm /usr/lib/python3/dist-packages/cloudinit/config/cc_vault_cube_report.py",
}  # fmt: skip


def test_drift_is_reported_without_changes_and_then_repaired(box):
    watched = (
        "md5sum /etc/sudoers.d/* /etc/ufw/* /etc/docker/daemon.json /etc/hostname /etc/passwd /etc/group 2>&1 || true"
    )
    whole = box.sh(watched)
    for script in DRIFT.values():
        box.sh(f"({script}) >/dev/null 2>&1")
    broken = box.sh(watched)
    assert broken != whole
    status, result = box.salt("layer.check", "base", whole=True)
    assert (status != 0, result["verdict"]) == (True, "fault")
    assert box.apply("test=True") == ({}, set(DRIFT))
    assert box.sh(watched) == broken, "test=True has changed the tree"
    assert box.apply() == ({}, set(DRIFT))
    assert box.apply() == ({}, set())
    # keys and entries that no state sets stay
    assert "10.0.0.9 models" in box.sh("cat /etc/hosts")
    assert json.loads(box.sh("cat /etc/docker/daemon.json"))["features"] == {"cdi": True}
    assert box.salt("layer.check", "base", whole=True)[1]["verdict"] == "ok"


# what people and programs do to a box, and what in the tree must be as before afterwards
HARM = """
dpkg --purge --force-all nano
printf 'PermitRootLogin yes\\n' >/etc/ssh/sshd_config.d/00-vault-cube.conf
mkdir -p /srv/theirs; mv /etc/docker/daemon.json /etc/ufw/ufw.conf /srv/theirs
ln -s /srv/theirs/daemon.json /etc/docker/daemon.json; ln -s /srv/theirs/ufw.conf /etc/ufw/ufw.conf
chmod 666 /etc/hosts; chown nobody /etc/systemd/system/ssh-host-keys.service /etc/docker; chgrp nogroup /etc/fstab
chmod 777 /etc/sudoers.d /etc/ssh; chmod 644 /etc/sudoers.d/99-vaultadmin
for command in uv salt-call; do rm /usr/local/bin/$command; printf '#!/bin/sh\\n' >/usr/local/bin/$command; done
usermod -p '$6$salt$hash' vaultadmin; usermod -p '' root; chage -E 2020-01-01 -d 0 vaultadmin
chmod 777 /home/vaultadmin
rm -r /etc/fail2ban/jail.d /etc/repart.d; mkdir -p /etc/repart.d/50-root.conf
rm /etc/cloud/cloud.cfg.d/zz-vault-cube.cfg; mkfifo /etc/cloud/cloud.cfg.d/zz-vault-cube.cfg
! command -v chattr || { echo evil >/etc/hostname; chattr +i /etc/hostname /etc/shadow /etc/systemd/network || true; }
sed -i '/^Package: less$/,/^Status/s/install ok installed/install ok unpacked/' /var/lib/dpkg/status
systemctl --root=/ disable ssh.service
"""
STATE = (
    "find /etc /usr/local /home -xdev ! -name '*.moved' ! -path '*.moved/*' ! -name '*-' ! -name '.*' "
    "! -path '/etc/fail2ban/jail.d/defaults-debian.conf' ! -name shadow -printf '%p %y %m %U %G %l\\n' | sort; "
    "md5sum /etc/ssh/sshd_config.d/* /etc/ufw/ufw.conf /etc/docker/daemon.json /etc/hosts /etc/fstab /etc/hostname; "
    # both mean that there is no password
    "cut -d: -f1,2,8 /etc/shadow | tr '*' '!'; dpkg --audit"
)


def test_one_apply_repairs_all_and_the_next_changes_nothing(box):
    whole = box.sh(STATE).splitlines()
    box.run(["env", "-u", "APT_CONFIG", "sh", "-c", HARM])
    assert len(set(box.sh(STATE).splitlines()) ^ set(whole)) > 20
    failed, changed = box.apply()
    assert failed == {}
    assert len(changed) > 15
    assert set(box.sh(STATE).splitlines()) ^ set(whole) == set()
    assert box.apply() == ({}, set())


def test_a_key_that_is_removed_from_the_pillar_is_removed_from_the_box(box):
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"
    file = "/home/vaultadmin/.ssh/authorized_keys2"
    box.choose(users={"vaultadmin": {"ssh_keys": [key]}})
    assert box.apply() == ({}, {"vaultadmin has a place for keys", "vaultadmin is let in by the pillar's keys"})
    assert box.sh(f"grep -v ^# {file}; stat -c '%a %U' {file} $(dirname {file})").splitlines() == [
        key, "600 vaultadmin", "700 vaultadmin",
    ]  # fmt: skip
    assert box.apply() == ({}, set())
    box.choose()
    assert box.apply() == ({}, {"vaultadmin is let in by no key of the pillar"})
    assert box.run(["test", "-e", file])[0] == 1


def test_another_ssh_port_changes_sshd_the_firewall_and_fail2ban(box):
    box.choose(ssh={"port": 2222}, firewall={"allow_tcp": [2222]})
    assert box.apply()[0] == {}
    assert "port 2222" in box.sh("mkdir -p /run/sshd; sshd -T").splitlines()
    assert "--dport 2222 -j ACCEPT" in box.sh("cat /etc/ufw/user.rules")
    assert "--dport 22 " not in box.sh("cat /etc/ufw/user.rules /etc/ufw/user6.rules")
    assert "['port', '2222']" in box.sh("fail2ban-client -d 2>/dev/null")
    assert box.apply() == ({}, set())


def test_the_builder_s_machine_has_no_leftover_mounts_or_processes(box):
    assert str(box.folder) not in Path("/proc/self/mounts").read_text()
    # no process of the tree is still running
    for link in Path("/proc").glob("[0-9]*/root"):
        try:
            assert not str(link.readlink()).startswith(str(box.folder))
        except OSError:
            continue  # the process has ended, or is a kernel thread
