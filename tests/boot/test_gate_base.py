"""Gate 1 on the booted box: users, ssh, firewall, fail2ban, Docker, updates, logs, time, first boot."""

import json

import pytest

pytestmark = pytest.mark.image


@pytest.fixture(scope="session")
def sshd(host):
    """The effective configuration of sshd, from all its files and defaults."""
    with host.sudo():
        lines = host.check_output("sshd -T").splitlines()
    return {line.split(" ", 1)[0]: line.partition(" ")[2] for line in lines}


def test_the_users_have_their_ids_and_groups(host, settings):
    for name, account in settings.base.users.items():
        user = host.user(name)
        assert (user.uid, user.gid, user.shell) == (account.uid, account.gid, account.shell)
        assert set(account.groups) <= set(user.groups)


def test_nobody_has_a_password(host):
    with host.sudo():
        shadow = host.check_output("cat /etc/shadow")
    hashes = {line.split(":")[0]: line.split(":")[1] for line in shadow.splitlines()}
    assert {name: value for name, value in hashes.items() if value[:1] not in ("!", "*")} == {}


def test_the_only_key_is_that_of_the_seed(host, box):
    with host.sudo():
        content = host.check_output("cat /home/*/.ssh/authorized_keys")
    keys = [line for line in content.splitlines() if line and not line.startswith("#")]
    assert keys == [box.seed.key.with_suffix(".pub").read_text().strip()]


def test_ssh_accepts_keys_only(sshd, settings, expected):
    wanted = {
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitrootlogin": "no",
        "permitemptypasswords": "no",
        "pubkeyauthentication": "yes",
        "x11forwarding": "no",
        "allowagentforwarding": "no",
        "allowtcpforwarding": "no",
        "maxauthtries": str(settings.base.ssh.max_auth_tries),
        "port": str(expected.ssh_port),
    }
    assert {key: sshd[key] for key in wanted} == wanted
    assert sshd["allowgroups"] == settings.base.ssh.group


def test_ssh_uses_the_pillars_algorithms_only(sshd, settings):
    ssh = settings.base.ssh
    pairs = {
        "ciphers": ssh.ciphers,
        "macs": ssh.macs,
        "kexalgorithms": ssh.key_exchange,
        "hostkeyalgorithms": ssh.host_key_algorithms,
    }
    assert {key: sshd[key].split(",") for key in pairs} == pairs


def test_ssh_shows_the_banner(host, sshd, settings):
    assert host.file(sshd["banner"]).content_string.strip() == settings.base.ssh.banner


def test_the_firewall_allows_only_the_pillars_ports(host, expected):
    with host.sudo():
        output = host.check_output("ufw status verbose")
    assert "Status: active" in output
    assert "deny (incoming), allow (outgoing)" in output
    allowed = {line.split()[0] for line in output.splitlines() if "ALLOW IN" in line}
    assert {int(rule.partition("/")[0]) for rule in allowed} == expected.ports


def test_the_ssh_jail_runs_with_the_pillars_numbers(host, settings):
    wanted = settings.base.fail2ban
    with host.sudo():
        numbers = [
            int(host.check_output(f"fail2ban-client get sshd {key}")) for key in ("maxretry", "findtime", "bantime")
        ]
    assert numbers == [wanted.failures, wanted.within_s, wanted.ban_s]


def test_docker_has_the_pillars_settings(host, settings):
    docker = settings.base.docker
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"
    written = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert written["log-opts"] == {"max-size": f"{docker.log_size_mb}m", "max-file": str(docker.log_files)}
    assert written["ip"] == docker.publish_address


def test_updates_are_for_security_and_never_the_kernel_or_docker(host, settings):
    output = host.check_output("apt-config dump Unattended-Upgrade")
    values = {}
    for line in output.splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.rstrip(":"), []).append(value.strip('";'))
    assert [v for v in values["Unattended-Upgrade::Package-Blacklist"] if v] == settings.base.updates.never
    assert [v for v in values["Unattended-Upgrade::Origins-Pattern"] if v] == settings.base.updates.origins
    assert values["Unattended-Upgrade::Automatic-Reboot"] == ["false"]


def test_units_are_enabled_and_running(host, settings):
    for unit in settings.base.units:
        service = host.service(unit)
        assert service.is_enabled, unit
        assert service.is_running or "oneshot" in service.systemd_properties.get("Type", ""), unit
    for unit in settings.base.units_off:
        assert not host.service(unit).is_enabled, unit


def test_no_unit_failed(host):
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_host_name_and_time_zone_are_the_pillars(host, settings):
    assert host.check_output("hostname") == settings.base.hostname
    assert host.check_output("timedatectl show -p Timezone --value") == settings.base.timezone


def test_the_journal_has_a_limit(host, settings):
    output = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert f"SystemMaxUse={settings.base.logs.journal_mb}M" in output


def test_the_running_kernel_is_a_package_and_has_the_pillars_settings(host, settings):
    with host.sudo():
        running = {
            key: str(host.sysctl(key)) for key, value in settings.base.kernel.sysctl.items() if value is not None
        }
    assert running == {key: settings.base.kernel.sysctl[key] for key in running}
    running = host.check_output("uname -r")
    assert host.package(f"linux-image-{running}").is_installed


def test_environments_can_be_created_with_venv_and_uv(host, settings):
    assert host.check_output("python3 --version").startswith(f"Python {settings.target.python}.")
    host.check_output("d=$(mktemp -d) && python3 -m venv $d/a && $d/a/bin/python -c 'import ssl' && rm -rf $d")
    host.check_output("d=$(mktemp -d) && uv venv --offline --python /usr/bin/python3 $d/b && rm -rf $d")


def test_files_of_the_build_are_not_on_the_box(host):
    for path in ("/usr/sbin/policy-rc.d", "/run/vault-cube/checkout", "/etc/salt/minion_id"):
        assert not host.file(path).exists, path
    with host.sudo():
        assert host.run("ls /etc/salt/pki/minion/*.pem").rc != 0
