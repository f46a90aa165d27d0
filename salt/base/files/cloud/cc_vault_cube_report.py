# written by salt/base/cloud.sls
"""Report what was ignored of a seed, on the console, above the login prompt and in `cloud-init status`.

Runs at the end of cloud-init's last stage.
"""

import glob
import json
import logging
import os
import pwd
import subprocess

import yaml
from cloudinit import util
from cloudinit.config.cc_vault_cube_apply import PROBLEMS, may_log_in

LOG = logging.getLogger(__name__)
meta = {
    "id": "cc_vault_cube_report",
    "name": "Vault Cube: report",
    "title": "Report what was ignored of the seed, and who can log in",
    "description": "",
    "distros": ["all"],
    "frequency": "once-per-instance",
    "examples": [],
    "activate_by_schema_keys": [],
}

# keys of the modules that salt/base/cloud.sls lists, and of cloud-init itself
TAKEN = {
    "allow_public_ssh_keys", "apt", "authkey_hash", "bootcmd", "ca-certs", "ca_certs", "create_hostname_file",
    "datasource", "debug", "device_aliases", "disable_root_opts", "disk_setup", "final_message", "fqdn", "fs_setup",
    "groups", "hostname", "keyboard", "manage_etc_hosts", "merge_how", "merge_type", "mount_default_fields",
    "mounts", "no_ssh_fingerprints", "ntp", "output", "package_reboot_if_required", "package_update",
    "package_upgrade", "packages", "phone_home", "power_state", "prefer_fqdn_over_hostname", "preserve_hostname",
    "random_seed", "reporting", "rsyslog", "runcmd", "ssh", "ssh_authorized_keys", "ssh_deletekeys",
    "ssh_fp_console_blacklist", "ssh_genkeytypes", "ssh_import_id", "ssh_key_console_blacklist", "ssh_keys",
    "ssh_publish_hostkeys", "ssh_quiet_keygen", "swap", "system_info", "timezone", "updates", "user", "users",
    "vendor_data", "version", "write_files",
}  # fmt: skip
REASONS = {
    "autoinstall": "this is an installer's format, and the image is already installed: use cloud-init's keys",
    "chpasswd": "refused: no account has a password; use ssh_authorized_keys",
    "growpart": "the root partition grows by itself",
    "instance-id": "it belongs into the file meta-data",
    "local-hostname": "it belongs into the file meta-data; in user-data the key is hostname",
    "locale": "set base:locale in the pillar; a locale other than C.UTF-8 needs the package locales-all",
    "network": "cloud-init reads the network from the file network-config",
    "password": "refused: no account has a password; use ssh_authorized_keys",
    "resize_rootfs": "the root file system grows by itself",
    "ssh-authorized-keys": "the key is ssh_authorized_keys",
    "ssh_pwauth": "refused: ssh accepts keys only",
    "disable_root": "refused: root cannot log in by ssh",
}
# forms of user-data that begin with other lines than #cloud-config (cloudinit.handlers.INCLUSION_TYPES_MAP)
FORMS = (b"#!", b"#cloud-config", b"#include", b"#cloud-boothook", b"#part-handler", b"## template:", b"Content-Type:",
         b"MIME-Version:", b"From ", b"\x1f\x8b")  # fmt: skip


def handle(name, cfg, *positional, **named):  # the arguments differ between cloud-init 22 and 23
    cloud = named.get("cloud") or positional[0]
    own, text = cfg.get("vault_cube", {}), _user_data(cloud)
    problems = _read(f"/{PROBLEMS}") or []
    keys = _seed_keys(cloud)
    problems += unread(text, keys) + ignored(keys)
    problems += _imports(keys)
    seeded = cloud.datasource is not None and getattr(cloud.datasource, "dsname", "None") != "None"
    if not seeded:
        problems += _media()
    allowed = _logins(own["group"], seeded)
    if allowed:
        LOG.info("can log in by ssh: %s", ", ".join(allowed))
    else:
        nobody = "nobody can log in by ssh: no account has a key"
        reason = "" if seeded else ": cloud-init found no medium with the label CIDATA"
        if seeded:
            problems.append(f"{nobody}: see step 5 of the setup guide")
        else:
            _show([nobody + reason])
    if problems:
        _show(problems)
        # cloud-init records the error of a module in `cloud-init status`
        raise ValueError("; ".join(problems))


def _user_data(cloud):
    """Return the user-data as it is on the medium, bytes."""
    raw = cloud.datasource.get_userdata_raw() if cloud.datasource else None
    return raw.encode() if isinstance(raw, str) else raw or b""


def _seed_keys(cloud):
    """Return the seed's cloud-config, after cloud-init has merged its parts."""
    path = cloud.get_ipath_cur("cloud_config")
    try:
        with open(path, encoding="utf-8") as opened:
            keys = yaml.safe_load(opened)
    except (OSError, ValueError, yaml.YAMLError):
        keys = None
    return keys if isinstance(keys, dict) else {}


def unread(text, keys):
    """Return why cloud-init read nothing of a user-data file; [] if it did.

    text: the file's bytes. keys: the cloud-config that cloud-init read.
    """
    start = text.lstrip()
    if keys or not start:
        return []
    if not start.startswith(FORMS):
        return [f"user-data: ignored: the first line must be #cloud-config, but is {start.splitlines()[0][:40]!r}"]
    if start.startswith(b"#cloud-config") and not start.startswith(b"#cloud-config-archive"):
        try:
            content = yaml.safe_load(start)
        except yaml.YAMLError as err:
            mark = getattr(err, "problem_mark", None)
            line = f"line {mark.line + 1}: " if mark else ""
            return [f"user-data: ignored: not valid YAML: {line}{getattr(err, 'problem', err)}"]
        if content and not isinstance(content, dict):
            return ["user-data: ignored: it must consist of keys and values, such as `users: …`"]
    return []


def ignored(keys):
    """Return one line for each key of a cloud-config that has no effect on the box, with the reason."""
    lines = []
    for key, value in keys.items():
        reason = REASONS.get(key, "this box does not run the module of this key, or cloud-init has no such key")
        if key in TAKEN or not _asks(key, value):
            continue
        lines.append(f"{key}: {'' if reason.startswith('refused') else 'ignored: '}{reason}")
    if keys.get("ssh_authorized_keys") and _no_default_user(keys):
        lines.append(
            "ssh_authorized_keys: ignored: they belong to the default user, and users does not contain `default`"
        )
    return lines


def _asks(key, value):
    """Return whether a key asks for more than the box does anyway."""
    if key == "chpasswd":
        return bool(isinstance(value, dict) and (value.get("list") or value.get("users")))
    if key == "growpart":
        return not (isinstance(value, dict) and str(value.get("mode", "")).lower() in ("off", "false"))
    if key == "disable_root":
        return not util.is_true(value)
    return key not in ("ssh_pwauth", "resize_rootfs") or util.is_true(value)


def _no_default_user(keys):
    """Return whether a cloud-config has users, but not cloud-init's default user."""
    users = keys.get("users")
    if keys.get("user") or users is None:
        return False
    if isinstance(users, dict):
        return "default" not in users
    if isinstance(users, str):
        return "default" not in [name.strip() for name in users.split(",")]
    return not any(
        user == "default" or (isinstance(user, dict) and user.get("name", "default") == "default") for user in users
    )


def _imports(keys):
    users = keys.get("users")
    entries = [user for user in users if isinstance(user, dict)] if isinstance(users, list) else []
    asked = keys.get("ssh_import_id") or any(user.get("ssh_import_id") for user in entries)
    if asked and not os.path.exists("/usr/bin/ssh-import-id"):
        return ["ssh_import_id: ignored: the package ssh-import-id is not installed; use ssh_authorized_keys"]
    return []


def _media():
    """Return why cloud-init does not use a medium that has the right label."""
    media = [path for label in ("CIDATA", "cidata") for path in glob.glob(f"/dev/disk/by-label/{label}")]
    return [
        f"{os.path.realpath(path)} has the label CIDATA, but not both files user-data and meta-data: nothing was read"
        for path in media
    ]


def _logins(group, seeded):
    """Return the people whom sshd lets in, with the number of their keys.

    seeded: also let in the people whom commands of the seed have made.
    """
    allowed = []
    for account in pwd.getpwall():
        if not 1000 <= account.pw_uid < 60000 or account.pw_shell.endswith(("/nologin", "/false")):
            continue
        keys = sum(_keys(f"{account.pw_dir}/.ssh/{name}") for name in ("authorized_keys", "authorized_keys2"))
        if keys and seeded:
            may_log_in(account.pw_name, group)
        if keys and group in _groups(account.pw_name):
            allowed.append(f"{account.pw_name} ({keys} key{'s' if keys > 1 else ''})")
    return allowed


def _groups(user):
    return subprocess.run(["id", "-nG", user], capture_output=True, text=True, check=False).stdout.split()


def _keys(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as opened:
            return sum(bool(line.strip()) and not line.startswith("#") for line in opened)
    except OSError:
        return 0


def _read(path):
    try:
        with open(path, encoding="utf-8") as opened:
            return json.load(opened)
    except (OSError, ValueError):
        return None


def _show(lines):
    """Print lines on the console, and above the login prompt of every terminal."""
    lines = [f"vault-cube: seed: {line}" for line in lines]
    try:
        with open("/dev/console", "w", encoding="utf-8") as console:
            console.write("\n".join(lines) + "\n")
    except OSError:
        LOG.warning("no console: %s", "; ".join(lines))
    util.ensure_dir("/run/issue.d")
    # agetty expands backslashes (agetty(8), issue file)
    util.write_file("/run/issue.d/70-vault-cube.issue", "\n".join(lines).replace("\\", "\\\\") + "\n\n", 0o644)
    subprocess.run(["agetty", "--reload"], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
