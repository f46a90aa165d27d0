"""Hardening as Salt renders it for each target: contents, that each setting can be turned off, and no lock-out."""

import re

import pytest
from copied import TOP, pillar_of
from rendered import TARGETS, dotted, files, low, states, text


def one_file(salt, name, local):
    """The states of one state file with a local pillar: ID to function to arguments. salt: for its options."""
    rendered = states(TOP / "salt/base" / name, pillar_of("debian-12", local), dotted(salt.opts))
    assert isinstance(rendered, dict), rendered
    return {
        identifier: {function: {key: value for entry in arguments for key, value in entry.items()}}
        for identifier, each in rendered.items()
        if identifier not in ("include", "extend")
        for function, arguments in each.items()
    }


FORWARDING = ({"forward_ports": [8000]}, {"forward_sockets": True}, {"forward_agent": True})
SSHD = "/etc/ssh/sshd_config.d/00-vault-cube.conf"


def chunk(salt, name, state="file"):
    return next(each for each in low(salt) if (each["state"], each["name"]) == (state, name))


def replacements(salt):
    return {each["__id__"]: each for each in low(salt) if (each["state"], each["fun"]) == ("file", "replace")}


def replaced(salt, identifier, file, content):
    """Apply a file.replace state to a file with this content, twice. Returns the new content."""
    state = replacements(salt)[identifier]
    file.write_text(content)
    names = ("pattern", "repl", "count", "append_if_not_found", "prepend_if_not_found", "backup")
    options = {name: state[name] for name in names if name in state}
    assert salt.states.file.replace(name=str(file), **options).result is True
    assert salt.states.file.replace(name=str(file), **options).changes == {}
    assert salt.states.file.replace(name=str(file), test=True, **options).result is True
    return file.read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_sshd_has_every_further_keyword_once(salt_of, target):
    salt = salt_of(target)
    written = text(salt, files(salt)[SSHD])
    keywords = [line.split()[0].lower() for line in written.splitlines() if line.strip() and line[0] != "#"]
    settings = salt.pillar["base"]["ssh"]["settings"]
    assert all(f"\n{keyword} {value}\n" in f"\n{written}\n" for keyword, value in settings.items())
    assert sorted(set(keywords) - {"hostkey"}) == sorted(word for word in keywords if word != "hostkey")
    assert re.findall("^HostKey (.*)$", written, re.M) == [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_rsa_key",
    ]
    assert "\nDisableForwarding yes\n" in written


@pytest.mark.parametrize("opened", FORWARDING)
def test_a_forwarding_that_the_pillar_opens_is_not_disabled(salt_of, opened):
    rendered = one_file(salt_of("debian-12"), "ssh.sls", {"base": {"ssh": opened}})
    written = rendered["ssh accepts keys only"]["file.managed"]["contents"]
    assert "DisableForwarding" not in written
    if "forward_ports" in opened:
        assert "AllowTcpForwarding local\n" in written


@pytest.mark.parametrize("target", TARGETS)
def test_docker_s_settings_are_merged(salt_of, target):
    values = chunk(salt_of(target), "/etc/docker/daemon.json", "shared")["values"]
    assert values["icc"] is False
    assert values["userland-proxy"] is False
    assert values["default-ulimits"]["nofile"] == {"Name": "nofile", "Soft": 65536, "Hard": 524288}
    assert values["live-restore"] is True


@pytest.mark.parametrize("target", TARGETS)
def test_the_firewall_does_not_override_sysctls(salt_of, target):
    salt = salt_of(target)
    written = text(salt, files(salt)["/etc/sysctl.d/99-vault-cube.conf"])
    assert chunk(salt, "/etc/default/ufw", "shared")["values"]["IPT_SYSCTL"] == '""'
    for key in ("all.log_martians = 1", "default.accept_source_route = 0", "yama.ptrace_scope = 1"):
        assert key in written


def test_a_sysctl_without_a_value_is_left_to_the_kernel(salt_of):
    local = {"base": {"kernel": {"sysctl": {"kernel.yama.ptrace_scope": None}}}}
    written = str(one_file(salt_of("debian-12"), "kernel.sls", local)["kernel settings"])
    assert "kernel.kptr_restrict = 2" in written
    assert "ptrace_scope" not in written


@pytest.mark.parametrize("target", TARGETS)
def test_blocked_modules_can_be_loaded_in_no_way(salt_of, target):
    salt = salt_of(target)
    written = text(salt, files(salt)["/etc/modprobe.d/vault-cube.conf"]).splitlines()
    for module in salt.pillar["base"]["kernel"]["blocked"]:
        assert {f"blacklist {module}", f"install {module} /bin/false"} <= set(written)


# ---- lines of packages' files

# from the packages passwd of Debian 12, login.defs of Debian 13, and util-linux, libpam-runtime and containerd of both
LOGIN_DEFS = {
    "Debian 12": '#\tUMASK\tDefault "umask"\n# HOME_MODE is used by\n#HOME_MODE\t0700\nENCRYPT_METHOD SHA512\n'
    "#\tPASS_MIN_DAYS\tMinimum number of days allowed between password changes.\nPASS_MIN_DAYS\t0\n"
    "# Only used with SHA256 or SHA512.\n# SHA_CRYPT_MIN_ROUNDS 5000\n# SHA_CRYPT_MAX_ROUNDS 5000\n",
    "Debian 13": "# HOME_MODE is used by useradd(8)\nHOME_MODE\t0700\nENCRYPT_METHOD YESCRYPT\nPASS_MIN_DAYS\t0\n"
    "#SHA_CRYPT_MIN_ROUNDS 5000\n#SHA_CRYPT_MAX_ROUNDS 5000\n",
    "emptied": "",
}
SU = (
    "auth       sufficient pam_rootok.so\n# auth       required   pam_wheel.so\n"
    "# auth       sufficient pam_wheel.so trust\n# auth       required   pam_wheel.so deny group=nosu\n"
)
AUTH = "auth\t[success={end} default=ignore]\tpam_unix.so {options}\nauth\trequisite\t\t\tpam_deny.so\n"
CRI = 'version = 2\n\n[plugins]\n  [plugins."io.containerd.internal.v1.opt"]\n    path = "/var/lib/containerd/opt"\n'


@pytest.mark.parametrize("name", LOGIN_DEFS)
def test_login_defs_has_each_of_the_pillar_s_values_once(salt_of, tmp_path, name):
    values = {
        "HOME_MODE": "0750", "ENCRYPT_METHOD": "YESCRYPT", "PASS_MIN_DAYS": "1", "SHA_CRYPT_MIN_ROUNDS": "100000",
        "SHA_CRYPT_MAX_ROUNDS": "100000",
    }  # fmt: skip
    content = LOGIN_DEFS[name]
    for key in values:
        content = replaced(salt_of("debian-12"), f"new accounts have the pillar's {key}", tmp_path / "defs", content)
    lines = content.splitlines()
    assert sorted(line for line in lines if not line.startswith("#")) == sorted(
        f"{key}\t{values[key]}" for key in values
    )
    example = re.compile(f"#\\s?({'|'.join(values)})\\s[0-9]+$")
    assert [line for line in lines if line.startswith("#")] == [
        line for line in LOGIN_DEFS[name].splitlines() if line.startswith("#") and not example.match(line)
    ]


@pytest.mark.parametrize(
    ("key", "names"),
    [("pass_min_days", {"PASS_MIN_DAYS"}), ("sha_rounds", {"SHA_CRYPT_MIN_ROUNDS", "SHA_CRYPT_MAX_ROUNDS"})],
)
def test_a_value_of_login_defs_can_be_left_to_the_distribution(salt_of, key, names):
    salt = salt_of("debian-12")
    with_none = one_file(salt, "users.sls", {"base": {"hardening": {key: None}}})
    assert set(one_file(salt, "users.sls", {})) - set(with_none) == {
        f"new accounts have the pillar's {name}" for name in names
    }


def test_zero_days_are_a_value(salt_of):
    states = one_file(salt_of("debian-12"), "users.sls", {"base": {"hardening": {"pass_min_days": 0}}})
    assert states["new accounts have the pillar's PASS_MIN_DAYS"]["file.replace"]["repl"] == "PASS_MIN_DAYS\t0"


def test_a_umask_is_written_only_if_the_pillar_has_one(salt_of, tmp_path):
    salt, state = salt_of("debian-12"), "new accounts have the pillar's UMASK"
    assert state not in replacements(salt)
    with_umask = one_file(salt, "users.sls", {"base": {"hardening": {"umask": "027"}}})[state]["file.replace"]
    file = tmp_path / "defs"
    file.write_text("# UMASK is\nUMASK\t\t022\n")
    salt.states.file.replace(**{**with_umask, "name": str(file), "require_in": []})
    assert file.read_text() == "# UMASK is\nUMASK\t027\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("nullok", "pam_unix.so"),
        ("nullok_secure", "pam_unix.so nullok_secure"),
        ("nullok try_first_pass", "pam_unix.so try_first_pass"),
        ("try_first_pass nullok", "pam_unix.so try_first_pass"),
        ("", "pam_unix.so "),
    ],
)
def test_pam_takes_no_empty_password(salt_of, tmp_path, before, after):
    content = AUTH.format(end=1, options=before)
    result = replaced(salt_of("debian-12"), "an empty password does not log in", tmp_path / "common-auth", content)
    assert result.splitlines()[0] == f"auth\t[success=1 default=ignore]\t{after}"
    assert result.splitlines()[1:] == content.splitlines()[1:]


@pytest.mark.parametrize("owner", [SU, SU.replace("# auth       required   pam_wheel.so\n", "")])
def test_su_is_for_the_group_of_the_pillar(salt_of, tmp_path, owner):
    result = replaced(salt_of("debian-12"), "su is for members of sugroup", tmp_path / "su", owner)
    active = [line for line in result.splitlines() if not line.startswith("#")]
    assert active == [
        "auth       sufficient pam_rootok.so",
        "auth       required   pam_wheel.so use_uid group=sugroup",
    ]
    assert "# auth       required   pam_wheel.so deny group=nosu" in result


@pytest.mark.parametrize("before", [CRI, "disabled_plugins = []\n[plugins]\n", ""])
def test_containerd_s_own_keys_stay(salt_of, tmp_path, before):
    result = replaced(salt_of("debian-12"), "containerd does not serve Kubernetes", tmp_path / "config.toml", before)
    assert result.splitlines()[0] == 'disabled_plugins = ["io.containerd.grpc.v1.cri"]'
    assert result.count("disabled_plugins") == 1
    assert result.endswith(before.replace("disabled_plugins = []\n", ""))


def test_a_box_without_a_containerd_file_gets_one_of_the_version_that_knows_the_plugin(salt_of, tmp_path):
    salt = salt_of("ubuntu-24.04")
    state = next(each for each in low(salt) if each["__id__"] == "containerd has a configuration")
    options = {"name": str(tmp_path / "config.toml"), "contents": state["contents"], "replace": state["replace"]}
    assert salt.states.file.managed(**options).result is True
    created = (tmp_path / "config.toml").read_text()
    result = replaced(salt, "containerd does not serve Kubernetes", tmp_path / "config.toml", created)
    assert result.splitlines() == ['disabled_plugins = ["io.containerd.grpc.v1.cri"]', "version = 2"]
    # the owner's file stays
    (tmp_path / "config.toml").write_text("# mine\n")
    assert salt.states.file.managed(**options).changes == {}


# ---- everything can be turned off

OFF = {
    "nullok": True,
    "core_dumps": True,
    "su_group": None,
    "sudo_log": None,
    "login_banner": False,
    "tmpfs": {"/tmp": None, "/dev/shm": None},
    "no_setuid": [],
    "sandbox": False,
}


def test_every_setting_can_be_turned_off(salt_of):
    local = {"base": {"hardening": OFF, "docker": {"cri": True}}}
    rendered = one_file(salt_of("debian-12"), "hardening.sls", local)
    functions = [(function, arguments) for each in rendered.values() for function, arguments in each.items()]
    edited = {arguments["name"] for function, arguments in functions if function == "file.replace"}
    assert edited == set()
    gone = {name for function, arguments in functions if function == "file.absent" for name in arguments["names"]}
    assert gone == {
        "/etc/security/limits.d/60-vault-cube.conf", "/etc/systemd/coredump.conf.d/zz-vault-cube.conf",
        "/etc/sudoers.d/zz-vault-cube-log", "/etc/logrotate.d/vault-cube-sudo",
    }  # fmt: skip
    assert "consoles show the banner before login" not in rendered
    assert rendered["temporary files are mounted without devices and setuid"]["shared.block"]["lines"] == []
    assert not {"cmd.run", "setuid.removed"} & {function for function, _ in functions}
    assert "containerd does not serve Kubernetes" not in one_file(salt_of("debian-12"), "docker.sls", local)
    unit = one_file(salt_of("debian-12"), "first_boot.sls", local)["each box makes its own ssh host keys"]
    written = unit["file.managed"]["contents"]
    assert "ProtectSystem=strict" in written
    assert "SystemCallFilter" not in written


@pytest.mark.parametrize("target", TARGETS)
def test_mounts_are_in_a_block_of_their_own(salt_of, target):
    blocks = [each for each in low(salt_of(target)) if (each["state"], each["name"]) == ("shared", "/etc/fstab")]
    assert len(blocks) == 2
    assert {each["by"] for each in blocks} == {"salt/base/first_boot.sls", "salt/base/hardening.sls"}
    ours = next(each for each in blocks if each["by"] == "salt/base/hardening.sls")
    assert ours["lines"] == [
        "tmpfs /dev/shm tmpfs nosuid,nodev 0 0",
        "tmpfs /tmp tmpfs nosuid,nodev,mode=1777,size=50% 0 0",
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_consoles_show_the_banner_of_ssh_and_no_name_of_a_system(salt_of, target):
    salt = salt_of(target)
    for path in ("/etc/issue", "/etc/issue.net"):
        assert text(salt, files(salt)[path]).strip() == salt.pillar["base"]["ssh"]["banner"]
    # agetty expands \S, \m, \r and \v to names of the system (CIS 1.6.2)
    assert "\\" not in salt.pillar["base"]["ssh"]["banner"]
