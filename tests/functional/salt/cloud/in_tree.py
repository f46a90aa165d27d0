"""Run all stages of cloud-init in a chroot, as a boot does. Prints the resulting logins, names and messages as JSON.

usage: in_tree.py GROUP
"""

import contextlib
import grp
import io
import json
import logging
import os
import pwd
import subprocess
import sys
from pathlib import Path

from cloudinit.cmd import main

GROUP = sys.argv[1]
STAGES = (["init", "--local"], ["init"], ["modules", "--mode=config"], ["modules", "--mode=final"])
logging.disable(logging.INFO)
output = io.StringIO()
with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
    for stage in STAGES:
        sys.argv = ["cloud-init", *stage]
        try:
            main.main()
        except SystemExit as end:
            output.write(f"{stage} ended with {end.code}\n")


def text(path):
    return Path(path).read_text() if Path(path).is_file() else ""


shadow = dict(line.split(":")[:2] for line in text("/etc/shadow").splitlines())
people = [account for account in pwd.getpwall() if 1000 <= account.pw_uid < 60000]
members = set(grp.getgrnam(GROUP).gr_mem)
status = json.loads(text("/run/cloud-init/status.json") or "{}").get("v1", {})
result = {
    "people": {
        account.pw_name: {
            "allowed": account.pw_name in members,
            "keys": [
                line
                for line in text(f"{account.pw_dir}/.ssh/authorized_keys").splitlines()
                if line and not line.startswith("#")
            ],
            "locked": shadow[account.pw_name][:1] in ("!", "*"),
            "groups": subprocess.run(
                ["id", "-nG", account.pw_name], capture_output=True, text=True, check=False
            ).stdout.split(),
            "shell": account.pw_shell,
        }
        for account in people
    },
    "root keys": text("/root/.ssh/authorized_keys"),
    "sudo": text("/etc/sudoers.d/90-cloud-init-users"),
    "hostname": text("/etc/hostname").strip(),
    "hosts": text("/etc/hosts"),
    "zone": os.path.realpath("/etc/localtime").removeprefix("/usr/share/zoneinfo/"),
    "timezone": text("/etc/timezone").strip(),
    "scrapes": text("/etc/vault-cube/monitoring/prometheus.yml"),
    "record": json.loads(text("/var/lib/vault-cube/seed.json") or "null"),
    "networks": {path: text(path) for path in sorted(map(str, Path("/etc/systemd/network").glob("*")))},
    "issue": text("/run/issue.d/70-vault-cube.issue"),
    "errors": [error for stage in status.values() if isinstance(stage, dict) for error in stage.get("errors", [])],
    "sshd": text("/etc/ssh/sshd_config.d/50-cloud-init.conf"),
    "output": output.getvalue(),
    "written": text("/etc/written"),
}
print(json.dumps(result))
