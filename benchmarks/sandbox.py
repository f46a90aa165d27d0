"""Measure training and vLLM with and without the sandbox of the box's units, in turn, in the tree of a built image.

    sudo apt install systemd-container && sudo .venv/bin/python benchmarks/sandbox.py --results benchmarks/results

Starts the tree's own systemd in a container without a network, as root, after `make image`. There, `systemd-run` runs
gpu.benchmark's workload programs as transient services: once with the settings that the unit of vLLM takes from
salt/base/sandbox.jinja, once without. Container and overlay are removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))
sys.path.insert(0, str(TOP / "benchmarks"))
import common  # noqa: E402 needs sys.path
import no_op  # noqa: E402 needs sys.path

from vault_cube.image.layers import chroot  # noqa: E402 needs sys.path

INSIDE = "/srv/sandbox"
WORK = TOP / "build/sandbox"
LIMIT_S = 3600
UNIT = f"""\
[Unit]
Description=Rounds of the benchmark of sandboxes
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 {INSIDE}/rounds.py
ExecStopPost=/usr/bin/systemctl --no-block poweroff
StandardOutput=file:{INSIDE}/out/log
StandardError=file:{INSIDE}/out/log
"""
ROUNDS = """\
import json, os, shutil, subprocess
from pathlib import Path

HERE, ROUNDS, SECONDS = Path("/srv/sandbox"), *json.loads(Path("/srv/sandbox/effort.json").read_text())
WORKLOADS = "/opt/vault-cube/checkout/workloads"
ENVIRONMENTS = "/opt/vault-cube/envs"
LOCAL = ["OMP_NUM_THREADS=1", "GLOO_SOCKET_IFNAME=lo", "VLLM_HOST_IP=127.0.0.1", "HOME=/var/lib/sandbox"]
TIMES = ["--repeats", "3", "--seconds", str(SECONDS), "--steady", "0"]
COMMANDS = {
    "training": [f"{ENVIRONMENTS}/pytorch/bin/python", "-m", "torch.distributed.run", "--nnodes", "1",
                 "--master-addr", "127.0.0.1", "--nproc-per-node", "2", f"{WORKLOADS}/ddp.py", *TIMES],
    "vllm": [f"{ENVIRONMENTS}/vllm/bin/python", f"{WORKLOADS}/vllm_serve.py", *TIMES, "--concurrent", "16"],
}


def sandbox():
    lines = subprocess.run(["systemctl", "cat", "vault-cube-vllm@0.service"], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    start = lines.index("# salt/base/sandbox.jinja") + 1
    settings = lines[start : lines.index("[Install]", start)]
    outer = [line for line in lines[:start] if line.startswith(("ProtectHome=", "ProtectProc=", "UMask=", "IPAddress"))]
    return [line for line in outer + settings if line.strip()]


settings = sandbox()
samples = []
for number in range(ROUNDS):
    for workload, command in COMMANDS.items():
        # which of the two comes first alternates
        for name in ("with", "without") if number % 2 else ("without", "with"):
            chosen = ["User=vllm", "StateDirectory=sandbox", "WorkingDirectory=/var/lib/sandbox",
                      "LimitMEMLOCK=infinity"]
            chosen += settings if name == "with" else []
            words = [word for setting in chosen for word in ("-p", setting)]
            words += [word for value in LOCAL for word in ("-E", value)]
            # a workload starts in an empty folder, as in gpu.benchmark
            shutil.rmtree("/var/lib/sandbox", ignore_errors=True)
            ran = subprocess.run(["systemd-run", "--wait", "--pipe", "--collect", "--quiet", *words, *command],
                                 capture_output=True, text=True, check=False)
            print(number, workload, name, ran.returncode, ran.stderr[-2000:] if ran.returncode else "", flush=True)
            print(ran.stdout[-6000:], flush=True)
            samples.append({"round": number, "workload": workload, "sandbox": name, "output": ran.stdout,
                            "status": ran.returncode})
(HERE / "out/result.json").write_text(
    json.dumps({"samples": samples, "settings": settings, "load": os.getloadavg()}))
"""


def main() -> None:
    parser = common.options(__doc__, rounds=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one timed run (default: %(default)s)")
    options = common.parsed(parser)
    if not shutil.which("systemd-nspawn"):
        parser.error("systemd-nspawn is missing: install systemd-container")
    load = os.getloadavg()[0]
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        inside = run(no_op.trees(options.target, TOP), options.rounds, options.seconds)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    rates = metrics(inside["samples"])
    common.write(
        options, "sandbox", load, inside, settings=inside["settings"], rates=rates,
        unit="samples or tokens per second; ratio: with the sandbox to without, in the same round",
    )  # fmt: skip


def metrics(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each rate by workload: medians with and without the sandbox, and of the ratios of each round's pair."""
    rates: dict[str, dict[str, dict[int, float]]] = {}
    for sample in samples:
        if sample["status"]:
            sys.exit(
                f"sandbox.py: {sample['workload']} {sample['sandbox']} the sandbox failed: {sample['output'][-2000:]}"
            )
        for metric in json.loads(sample.pop("output"))["metrics"]:
            if metric["better"] == "higher" and metric["unit"].endswith("/s"):
                name = " ".join(filter(None, (metric["quantity"], metric["subject"])))
                sides = rates.setdefault(f"{sample['workload']}: {name}", {"with": {}, "without": {}})
                sides[sample["sandbox"]][sample["round"]] = statistics.median(metric["samples"])
    result = {}
    for name, sides in rates.items():
        ratios = [sides["with"][number] / rate for number, rate in sides["without"].items()]
        result[name] = {side: common.median(list(rate.values())) for side, rate in sides.items()}
        result[name]["ratio"] = common.median(ratios)
    return result


def run(lower: list[Path], rounds: int, seconds: float) -> Any:
    """Run all rounds in a container that boots the tree. Returns the samples, the settings, and the load at the end."""
    for folder in ("upper", "layer-work", "merged", "share/out"):
        (WORK / folder).mkdir(parents=True)
    (WORK / "share/rounds.py").write_text(ROUNDS)
    (WORK / "share/effort.json").write_text(json.dumps([rounds, seconds]))
    units = WORK / "upper/etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "sandbox-rounds.service").write_text(UNIT)
    (units / "multi-user.target.wants/sandbox-rounds.service").symlink_to("../sandbox-rounds.service")
    # the firewall and the kernel's settings are those of this machine, and are left alone
    for name in ("ufw", "docker", "docker.socket", "containerd", "fail2ban", "systemd-sysctl", "auditd", "cloud-init"):
        (units / (name if "." in name else f"{name}.service")).symlink_to("/dev/null")
    overlay = chroot.Overlay(lower, WORK / "upper", WORK / "layer-work")
    container = [
        "systemd-nspawn", "--quiet", "--boot", "--private-network", "--register=no", "--keep-unit",
        "--machine=sandbox", f"--directory={WORK / 'merged'}", f"--bind={WORK / 'share'}:{INSIDE}",
    ]  # fmt: skip
    script = 'mount -t overlay -o "$1" overlay "$2"; shift 2; exec "$@"'
    # the mount ends with its namespace, and the container with this process
    command = ["unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL",
               "sh", "-euc", script, "sh", chroot.mount_options(overlay), str(WORK / "merged"), *container]  # fmt: skip
    with (WORK / "console.log").open("wb") as log:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LIMIT_S, check=False)
    result = WORK / "share/out/result.json"
    if not result.exists():
        logs = [file for file in (WORK / "console.log", WORK / "share/out/log") if file.exists()]
        tail = [file.read_text(errors="replace")[-3000:] for file in logs]
        sys.exit(f"sandbox.py: the container ended with status {ran.returncode}:\n" + "\n".join(tail))
    return json.loads(result.read_text())


if __name__ == "__main__":
    main()
