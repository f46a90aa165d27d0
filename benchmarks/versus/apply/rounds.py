"""Measure how long each tool takes to apply the same settings: `rounds.py ROUNDS RESULT.json`. Runs in a tree.

A round runs each tool in turn, the order rotated by one each round: first apply, apply again, apply after one file was
changed, and after ten were. Before each tool's turn, all settings are removed; after each run they are compared.
"""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

from timed import timed

HERE = Path("/run/versus")
TASKS = json.loads((HERE / "tasks.json").read_text())
LOG = HERE / "out/log"
PYTHON = f"{HERE}/venv/bin/python"
TOOLS = {
    "salt": ["/usr/local/bin/salt-call", "--local", "--retcode-passthrough", "state.apply", "base"],
    "ansible": [PYTHON, f"{HERE}/venv/bin/ansible-playbook", "-i", "localhost,", f"{HERE}/base.yml"],
    "pyinfra": [PYTHON, f"{HERE}/venv/bin/pyinfra", "-y", "@local", f"{HERE}/base_pyinfra.py"],
}
KEPT = {"/etc/salt/minion", "/usr/local/bin/salt-call"}
"""What Salt itself needs; all tools find it in place."""
SSHD = "/etc/ssh/sshd_config.d/00-vault-cube.conf"
SITUATIONS = {"first": None, "again": 0, "one file": 1, "ten files": 10}
"""The number of files that are changed before the run; None: all settings are removed."""


def main():
    rounds, result = int(sys.argv[1]), Path(sys.argv[2])
    os.environ["ANSIBLE_CONFIG"] = f"{HERE}/ansible.cfg"
    samples, names = [], list(TOOLS)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            undo()
            for situation, changed in SITUATIONS.items():
                drift(changed or 0)
                sample = {"round": number, "tool": name, "situation": situation, **timed(TOOLS[name], LOG)}
                wrong = differences()
                if wrong:
                    end = LOG.read_text(errors="replace")[-3000:]
                    sys.exit(f"{name}, {situation}: not as wanted: {', '.join(wrong[:5])}\n{end}")
                samples.append({**sample, "load": round(os.getloadavg()[0], 2)})
                print(samples[-1], flush=True)
        # after each round, so that a run that is stopped has a result
        result.write_text(json.dumps({"samples": samples, "load": os.getloadavg()}))


def undo():
    """Remove all settings. Packages and system accounts stay."""
    paths = [part["path"] for kind in ("files", "links", "blocks", "hosts_wanted", "objects") for part in TASKS[kind]]
    for path in set(paths) - KEPT:
        Path(path).unlink(missing_ok=True)
    for part in TASKS["assignments"]:
        file = Path(part["path"])
        others = [line for line in file.read_text().splitlines() if not line.startswith(f"{part['key']}=")]
        file.write_text("\n".join([*others, f"{part['key']}=other"]) + "\n")
    run("apt-mark", "unhold", *(name for names in TASKS["held"] for name in names))
    run("systemctl", "--root=/", "disable", *(unit for unit in TASKS["units"] if unit_file(unit)))
    for user in TASKS["users"]:
        if not user["system"] and user["name"] in {entry.pw_name for entry in pwd.getpwall()}:
            run("userdel", "--remove", user["name"])


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def unit_file(unit):
    return any((Path(folder) / unit).exists() for folder in ("/etc/systemd/system", "/lib/systemd/system"))


def drift(number):
    """Append a line to this many files, first to sshd's."""
    paths = sorted((part["path"] for part in TASKS["files"]), key=lambda path: (path != SSHD, path))
    for path in paths[:number]:
        with Path(path).open("a") as file:
            file.write("# changed\n")


def differences():
    """List the files, links, units, holds and users that are not as wanted."""
    wrong = [part["path"] for part in TASKS["files"] if not same(part)]
    wrong += [part["path"] for part in TASKS["links"] if os.readlink(part["path"]) != part["target"]]  # noqa: PTH115
    for part in TASKS["objects"]:
        present = json.loads(Path(part["path"]).read_text())
        wrong += [] if json.loads(Path(part["src"]).read_text()).items() <= present.items() else [part["path"]]
    for part in TASKS["assignments"]:
        if f"{part['key']}={part['value']}" not in Path(part["path"]).read_text().splitlines():
            wrong.append(f"{part['path']} {part['key']}")
    for part in TASKS["blocks"]:
        missing = part["lines"] and set(part["lines"]) - set(Path(part["path"]).read_text().splitlines())
        wrong += [part["path"]] if missing else []
    for part in TASKS["hosts_wanted"]:
        lines = {tuple(line.split()) for line in Path(part["path"]).read_text().splitlines()}
        wrong += [row["line"] for row in part["lines"] if tuple(row["line"].split()) not in lines]
    wrong += [unit for unit in TASKS["units"] if ask("systemctl", "--root=/", "is-enabled", unit) != "enabled"]
    wrong += sorted({name for names in TASKS["held"] for name in names} - set(ask("apt-mark", "showhold").split()))
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return wrong + [user["name"] for user in TASKS["users"] if known.get(user["name"]) != user["uid"]]


def same(part):
    file = Path(part["path"])
    if not file.is_file() or file.stat().st_mode & 0o7777 != int(part["mode"], 8):
        return False
    return file.read_bytes() == Path(part["src"]).read_bytes()


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
