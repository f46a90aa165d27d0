# written by salt/base/cloud.sls
"""Apply what the box handles itself of a seed: who may log in by ssh, time zone, host name in /etc/hosts, network.

Runs in cloud-init's network stage, after the users are made. cc_vault_cube_report reports the problems.
"""

import copy
import fnmatch
import json
import logging
import os
import pwd
import re
import subprocess

from cloudinit import util
from cloudinit.distros import ug_util

LOG = logging.getLogger(__name__)
meta = {
    "id": "cc_vault_cube_apply",
    "name": "Vault Cube: apply",
    "title": "Let the seed's users in, and apply time zone, host name and network",
    "description": "",
    "distros": ["all"],
    "frequency": "once-per-instance",
    "examples": [],
    "activate_by_schema_keys": [],
}

RECORD = "var/lib/vault-cube/seed.json"
"""Values of the seed that override the pillar: base.hostname and base.timezone. Read by _pillar/vault_cube.py."""
PROBLEMS = "run/vault-cube-seed-problems.json"
PASSWORDS = ("passwd", "hashed_passwd", "plain_text_passwd")
# RFC 1123, 2.1; Linux limits the whole name to 64 characters
HOST_NAME = re.compile(
    r"(?=.{1,64}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def handle(name, cfg, *positional, **named):  # the arguments differ between cloud-init 22 and 23
    cloud = named.get("cloud") or positional[0]
    problems = []
    users = _users(cfg, cloud)
    image_users = cfg.get("vault_cube", {}).get("users", [])
    for user, config in users.items():
        try:
            problems += _user(user, config, cfg["vault_cube"]["group"], image_users)
        except (OSError, subprocess.SubprocessError) as err:
            problems.append(f"users: {user}: {err}")
    record = {}
    for key, take in (("hostname", _host_name), ("timezone", _time_zone)):
        value, problem = take(cfg, cloud)
        problems += problem
        record |= {key: value} if value else {}
    _write(RECORD, record)
    if "hostname" in record:
        _scrapes(cfg.get("vault_cube_scrapes"), record["hostname"])
    problems += _network(cloud)
    _write(PROBLEMS, problems)


def _write(path, content):
    util.ensure_dir(f"/{os.path.dirname(path)}")
    util.write_file(f"/{path}", json.dumps(content) + "\n", 0o644)


def _users(cfg, cloud):
    """Return the seed's users as cloud-init reads them: name to settings."""
    users, _groups = ug_util.normalize_users_groups(copy.deepcopy(cfg), cloud.distro)
    return users


def may_log_in(user, group):
    """Add an account to the group whose members sshd lets in."""
    subprocess.run(["usermod", "--append", "--groups", group, user], check=True, stdin=subprocess.DEVNULL)


def _user(user, config, group, image_users):
    """Let a user of the seed in by key, and lock its password. Returns the problems."""
    if user == "root":
        keys = config.get("ssh_authorized_keys")
        return ["users: root: not let in: root cannot log in by ssh; name another user"] if keys else []
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return [f"users: {user}: the account was not made: see /var/log/cloud-init.log"]
    may_log_in(user, group)
    problems = []
    given = [key for key in PASSWORDS if config.get(key)]
    if given:
        # an expired or known password would also matter at the console
        subprocess.run(["usermod", "--password", "!", user], check=True, stdin=subprocess.DEVNULL)
        problems.append(f"users: {user}: {given[0]}: refused: no account has a password; use ssh_authorized_keys")
    shell = account.pw_shell or "/bin/sh"
    if not os.access(shell, os.X_OK):
        problems.append(f"users: {user}: shell {shell} is not installed: {user} cannot log in; use /bin/bash")
    if user in image_users:
        return problems + _differences(user, config, account)
    if {"sudo", "admin", "wheel"} & set(_words(config.get("groups"))) and not config.get("sudo"):
        problems.append(
            f"users: {user}: cannot become root: sudo would ask for a password, and no account has one; "
            "add `sudo: ALL=(ALL) NOPASSWD:ALL`"
        )
    return problems


def _words(groups):
    """Return group names as a list, from any form that cloud-init accepts."""
    if isinstance(groups, str):
        return [group.strip() for group in groups.split(",") if group.strip()]
    return list(groups or [])


def _differences(user, config, account):
    """Add an account of the image to the seed's groups. Returns the settings that cloud-init ignores for it."""
    for group in _words(config.get("groups")):
        if util.is_group(group):
            may_log_in(user, group)
    wanted = {"uid": account.pw_uid, "shell": account.pw_shell, "homedir": account.pw_dir}
    return [
        f"users: {user}: {key} {config[key]}: ignored: the account is in the image; set base:users:{user} in the pillar"
        for key, value in wanted.items()
        if config.get(key) not in (None, value, str(value))
    ]


def _host_name(cfg, cloud):
    """Return the host name that the seed sets, after cloud-init has set it; and problems."""
    if not all(isinstance(cfg.get(key, ""), str) for key in ("hostname", "fqdn")):
        return None, [f"hostname: {cfg.get('hostname', cfg.get('fqdn'))!r} is not a string: put it in quotes"]
    info = util.get_hostname_fqdn(cfg, cloud, metadata_only=True)
    if not info.hostname or util.get_cfg_option_bool(cfg, "preserve_hostname", False):
        return None, []
    name = _text("/etc/hostname").strip()
    if not HOST_NAME.fullmatch(name):
        return None, [f"hostname: {name!r} is not a host name: use letters, digits and hyphens"]
    if not cfg.get("manage_etc_hosts"):
        names = dict.fromkeys(part for part in (info.fqdn, name, info.hostname) if part)
        line = f"127.0.1.1 {' '.join(names)}\n"
        hosts = _text("/etc/hosts")
        kept = "".join(row for row in hosts.splitlines(True) if row.split()[:1] != ["127.0.1.1"])
        util.write_file("/etc/hosts", kept + ("" if kept.endswith("\n") or not kept else "\n") + line, 0o644)
    return name, []


def _scrapes(scrapes, name):
    """Put the host name into Prometheus's scrape configuration, as the states would: else the seed would be drift.

    scrapes: `file` and `unit`, as salt/validation/alerts.sls writes them; None on a box without them.
    """
    before = _text(scrapes["file"]) if scrapes else ""
    text = re.sub(r'(?<=\binstance: ")[^"]*', name, before)
    if text != before:
        util.write_file(scrapes["file"], text, 0o644)
        # without waiting, because this boot may start the unit after cloud-init only
        command = ["systemctl", "--no-block", "try-restart", scrapes["unit"]]
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as opened:
            return opened.read()
    except OSError:
        return ""


def _time_zone(cfg, _cloud):
    """Set the seed's time zone as the states do. Returns it, and problems."""
    zone = cfg.get("timezone")
    if not zone:
        return None, []
    if not isinstance(zone, str) or zone.startswith("/") or not os.path.isfile(f"/usr/share/zoneinfo/{zone}"):
        return None, [f"timezone: {zone}: not in this box's /usr/share/zoneinfo: use a name such as America/New_York"]
    util.sym_link(f"/usr/share/zoneinfo/{zone}", "/etc/localtime", force=True)
    util.write_file("/etc/timezone", f"{zone}\n", 0o644)
    return zone, []


def _network(cloud):
    """Apply the seed's network-config, if there is one. Returns problems.

    Not left to cloud-init itself, which without a network-config would configure the first port, and only this one.
    """
    config = getattr(cloud.datasource, "network_config", None)
    if not config or config.get("config") == "disabled":
        return []
    ports = sorted(set(os.listdir("/sys/class/net")) - {"lo"})
    config = config.get("network", config)
    config, missing = chosen_ports(config, ports)
    try:
        cloud.distro.apply_network_config(config, bring_up=True)
    except Exception as err:  # whatever cloud-init's parser raises for this file
        return [f"network-config: {type(err).__name__}: {err}: DHCP is used"]
    return [
        f"network-config: there is no port {name}; this box has {', '.join(ports)}: use one, or `match: {{name: 'e*'}}`"
        for name in missing
    ]


def chosen_ports(config, ports):
    """Replace each pattern of a version 2 configuration by the ports that match: networkd's renderer knows only names.

    Returns the configuration, and the names and patterns without a port.
    """
    if config.get("version") != 2:
        physical = [part for part in config.get("config", []) if part.get("type") == "physical"]
        return config, [
            part["name"] for part in physical if part.get("name") not in ports and not part.get("mac_address")
        ]
    config, missing = copy.deepcopy(config), []
    chosen = {}
    for name, settings in (config.get("ethernets") or {}).items():
        match = (settings or {}).get("match") or {}
        if match.get("macaddress") or match.get("driver"):
            chosen[name] = settings
            continue
        pattern = match.get("name", name)
        matching = fnmatch.filter(ports, pattern)
        missing += [] if matching else [pattern]
        for port in matching:
            chosen[port] = {key: value for key, value in (settings or {}).items() if key not in ("match", "set-name")}
    for settings in chosen.values():
        for route in (settings or {}).get("routes") or []:
            if route.get("to") == "default":  # unknown to cloud-init 22
                route["to"] = "::/0" if ":" in str(route.get("via")) else "0.0.0.0/0"
    return {**config, **({"ethernets": chosen} if "ethernets" in config else {})}, missing
