"""Apply the base layer's settings with Salt, Ansible and pyinfra in one tree, and compare their times. Run as root:

    sudo .venv/bin/salt-call image.layer base
    sudo .venv/bin/python benchmarks/versus/apply/measure.py --results benchmarks/results

Needs a machine whose `python3` has the minor version of the target's, and once a network: Ansible and pyinfra are
installed from tools.lock into build/versus/, beside python3-apt, which Ansible's apt module needs. The tools run in an
overlay of the finished layers root and base, without a network; the overlay is removed at the end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
sys.path.insert(0, str(TOP))
sys.path.insert(0, str(TOP / "benchmarks"))
import common  # noqa: E402 needs sys.path

from vault_cube.image.layers import chroot  # noqa: E402 needs sys.path

INSIDE = "/run/versus"
CHECKOUT = "/opt/vault-cube/checkout"
BUILD = TOP / "build/versus"
TOOLS = ("salt", "ansible", "pyinfra")
# applied first, so that the content of each file can be read
PREPARE = f"""\
ip link set lo up
salt-call --local --retcode-passthrough state.apply base >{INSIDE}/out/log 2>&1 || exit 1
salt-call --local --out=json state.show_low_sls base >{INSIDE}/out/low.json
/usr/bin/python3 {INSIDE}/tasks.py {INSIDE}/out/low.json {INSIDE}/tasks.json
exec /usr/bin/python3 {INSIDE}/rounds.py {{rounds}} {INSIDE}/out/result.json
"""


def main() -> None:
    options = common.parsed(common.options(__doc__, rounds=7))
    tools()
    load = os.getloadavg()[0]
    inside = run(layers(options.target), options.target, options.rounds)
    rounds, situations = times(inside["samples"])
    common.write(
        options, "versus-apply", load, inside, versions=versions(options.target), rounds=rounds,
        unit="seconds; ratio: to Salt in the same round", times=situations,
    )  # fmt: skip


def tools() -> None:
    """Install Ansible and pyinfra into build/versus/venv, and unpack python3-apt beside it."""
    lock, venv = HERE / "tools.lock", BUILD / "venv"
    if not (venv / "tools.lock").is_file() or (venv / "tools.lock").read_bytes() != lock.read_bytes():
        shutil.rmtree(venv, ignore_errors=True)
        variables = subprocess.run(
            [sys.executable, "-m", "vault_cube.image.locks.indexes"],
            cwd=TOP, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        script = f"""{variables}
"{TOP}/.venv/bin/uv" venv --quiet --python /usr/bin/python3 "{venv}"
"{TOP}/.venv/bin/uv" pip sync --quiet --compile-bytecode --python "{venv}/bin/python" --require-hashes "{lock}"
"""
        subprocess.run(["sh", "-euc", script], check=True)
        shutil.copyfile(lock, venv / "tools.lock")
    packages = ["python3-apt", "python-apt-common"]
    subprocess.run(["sh", TOP / "scripts/unpacked.sh", BUILD / "debian", *packages], check=True)


def layers(target: str) -> list[Path]:
    """Return the finished trees of the layers root and base."""
    code = """
import json, sys
sys.path.insert(0, "tests/integration"); sys.path.insert(0, "tests")
from base_tree import built, chosen_workspace
print(json.dumps([str(tree) for tree in list(built(chosen_workspace(sys.argv[1])).values())[:2]]))
"""
    ran = subprocess.run([sys.executable, "-c", code, target], cwd=TOP, capture_output=True, text=True, check=True)
    trees = json.loads(ran.stdout)
    if len(trees) < 2:
        sys.exit(f"measure.py: the base layer is not built: run `.venv/bin/salt-call image.layer base target={target}`")
    return [Path(tree) for tree in trees]


def run(trees: list[Path], target: str, rounds: int) -> Any:
    """Run all rounds in an overlay of the trees. Returns the samples and the load at the end."""
    work = BUILD / "work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        for folder in ("upper" + CHECKOUT, "work", "merged", "out"):
            (work / folder).mkdir(parents=True)
        chroot.block_daemons(work / "upper")
        shutil.copytree(BUILD / "debian/usr", work / "upper/usr", dirs_exist_ok=True)
        common.copy_carried(TOP, target, work / "upper" / CHECKOUT.lstrip("/"))
        binds = [chroot.Bind(BUILD / "venv", f"{INSIDE}/venv")]
        binds.append(chroot.Bind(work / "out", f"{INSIDE}/out", writable=True))
        names = ("tasks.py", "rounds.py", "base.yml", "base_pyinfra.py", "ansible.cfg", "../../timed.py")
        binds += [chroot.Bind((HERE / name).resolve(), f"{INSIDE}/{Path(name).name}") for name in names]
        overlay = chroot.Overlay(trees, work / "upper", work / "work")
        command = ["sh", "-euc", PREPARE.format(rounds=rounds)]
        status = chroot.run(
            overlay, command, what="the rounds", log=None, mountpoint=work / "merged", binds=binds, check=False
        )
        if status:
            sys.exit(f"measure.py: the rounds failed with status {status}: {(work / 'out/log').read_text()[-2000:]}")
        return json.loads((work / "out/result.json").read_text())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def times(samples: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """Return the number of whole rounds, and medians with intervals by situation and tool with ratios to Salt."""
    rounds = range(min(len([s for s in samples if s["tool"] == tool]) for tool in TOOLS) // 4)

    def values(tool: str, situation: str, key: str) -> list[float]:
        wanted = [s for s in samples if (s["tool"], s["situation"]) == (tool, situation)]
        return [sample[key] for sample in wanted if sample["round"] in rounds]

    def measured(tool: str, situation: str, key: str) -> dict[str, Any]:
        own, salt = values(tool, situation, key), values("salt", situation, key)
        ratios = [a / b for a, b in zip(own, salt, strict=True)]
        return {**common.median(own), "ratio": common.median(ratios)}

    return len(rounds), {
        situation: {tool: {key: measured(tool, situation, key) for key in ("wall", "cpu")} for tool in TOOLS}
        for situation in dict.fromkeys(sample["situation"] for sample in samples)
    }


def versions(target: str) -> dict[str, str]:
    """Return the versions of the tools."""
    command = [TOP / ".venv/bin/uv", "pip", "list", "--quiet", "--format=json", "--python", BUILD / "venv/bin/python"]
    installed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = {package["name"]: package["version"] for package in installed}
    lock = (TOP / "locks" / target / "python-salt.lock").read_text()
    found["salt"] = re.search(r"^salt==(\S+)", lock, re.MULTILINE)[1]
    return {name: found[name] for name in ("salt", "ansible-core", "pyinfra")}


if __name__ == "__main__":
    main()
