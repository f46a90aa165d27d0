"""The base layer's settings for pyinfra. tasks.py exports the variables from the states."""

import json
from pathlib import Path

from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server

TASKS = json.loads(Path("/run/versus/tasks.json").read_text())

for group in TASKS["groups_wanted"]:
    server.group(group=group["name"], gid=group["gid"], system=group["system"])
for user in TASKS["users"]:
    server.user(
        user=user["name"], uid=user["uid"], group=user["group"], groups=user["groups"], append=True, home=user["home"],
        shell=user["shell"], create_home=user["create_home"], ensure_home=user["create_home"], system=user["system"],
    )  # fmt: skip
apt.packages(packages=[name for names in TASKS["packages"] for name in names], no_recommends=True)

# pyinfra has no operation for holds
held = {name for names in TASKS["held"] for name in names}
free = held - set((host.get_fact(Command, "apt-mark showhold") or "").split())
if free:
    server.shell(commands=[f"apt-mark hold {' '.join(sorted(free))}"])

for folder in TASKS["folders"] + TASKS["parents"]:
    files.directory(path=folder["path"], user=folder["user"], group=folder["group"], mode=folder["mode"])
for file in TASKS["files"]:
    files.put(src=file["src"], dest=file["path"], user=file["user"], group=file["group"], mode=file["mode"])
for link in TASKS["links"]:
    files.link(path=link["path"], target=link["target"], force=True, force_backup=False)
for path in TASKS["absent"]:
    files.file(path=path, present=False)
for block in TASKS["blocks"]:
    if block["lines"]:
        files.block(path=block["path"], content=block["lines"])
for part in TASKS["hosts_wanted"]:
    for row in part["lines"]:
        address = row["address"].replace(".", "[.]")
        files.line(path=part["path"], line=f"^{address}[[:space:]].*$", replace=row["line"])
for assignment in TASKS["assignments"]:
    line = f"{assignment['key']}={assignment['value']}"
    files.line(path=assignment["path"], line=f"^{assignment['key']}=.*$", replace=line)
for document in TASKS["objects"]:
    files.put(src=document["src"], dest=document["path"], mode="0644")

# systemd.service asks the running systemd, which a tree does not have: it would enable every unit in every run
for verb, names, wanted in (
    ("enable", TASKS["units"], {"enabled"}),
    ("disable", TASKS["units_off"], {"disabled", "masked", "static", "not-found"}),
):
    if names:
        states = (host.get_fact(Command, f"systemctl --root=/ is-enabled {' '.join(names)} || true") or "").splitlines()
        if len(states) != len(names) or not set(states) <= wanted:
            server.shell(commands=[f"systemctl --root=/ {verb} {' '.join(names)}"])
