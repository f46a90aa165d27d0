"""Load the rules for containers in network namespaces, and open connections between containers and a network.

usage: container_probe.py AFTER AFTER6 USER USER6 (files of ufw). Run it in a new network namespace. Prints JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

GROUP = "7663"
LISTEN = (
    "import socket, threading\nkept = []\n"
    "for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):\n"
    "    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
    "    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
    "    s.bind((address, 80)); s.listen(); kept.append(s)\n"
    "threading.Event().wait()\n"
)
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 80), 1)"
# network: its bridge, whether Docker has made the bridge, the container's addresses
NETWORKS = {
    "bridge": ("docker0", True, "172.17.0", "fd17"),
    "user network": ("br-0123456789ab", True, "172.18.0", "fd18"),
    "named bridge": ("lan0", True, "172.19.0", "fd19"),
    "bridge named like a port": ("eth7", True, "172.20.0", "fd20"),
    "bridge of the box's network": ("br-lan", False, "172.21.0", "fd21"),
}


def run(*words, text=None):
    done = subprocess.run(words, capture_output=True, text=True, input=text, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")


def machine(started):
    started.append(subprocess.Popen(["unshare", "--net", "python3", "-c", LISTEN]))
    time.sleep(0.5)
    return started[-1]


def inside(process, *words):
    run("nsenter", f"--net=/proc/{process.pid}/ns/net", *words)


def connect(process, bridge, number, prefix, number6):
    """Connect a machine to a bridge or to a cable of the box: the box has .1, the machine has .2."""
    side, far = f"v{number}", f"f{number}"
    run("ip", "link", "add", side, "type", "veth", "peer", "name", far, "netns", str(process.pid))
    run("ip", "link", "set", side, *(("master", bridge) if bridge else ()), "up")
    for device, last, place in ((bridge or side, 1, None), (far, 2, process)):
        enter = ("nsenter", f"--net=/proc/{place.pid}/ns/net") if place else ()
        run(*enter, "ip", "addr", "add", f"{prefix}.{last}/24", "dev", device)
        run(*enter, "ip", "addr", "add", f"{number6}::{last}/64", "dev", device, "nodad")
        run(*enter, "ip", "link", "set", device, "up")
    inside(process, "ip", "route", "add", "default", "via", f"{prefix}.1")
    inside(process, "ip", "route", "add", "default", "via", f"{number6}::1")


def opens(process, address):
    words = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "python3", "-c", CONNECT, address]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def main(after, after6, user, user6):
    started = []
    try:
        for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"):
            Path(path).write_text("1")
        outside = machine(started)
        connect(outside, None, 0, "10.9.0", "fd09")
        for number, (bridge, by_docker, prefix, prefix6) in enumerate(NETWORKS.values(), 1):
            run("ip", "link", "add", bridge, "type", "bridge")
            if by_docker:
                run("ip", "link", "set", bridge, "group", GROUP)
            connect(machine(started), bridge, number, prefix, prefix6)
        for tool, files, ufw in (("iptables", (after, user), "ufw"), ("ip6tables", (after6, user6), "ufw6")):
            run(tool, "-N", f"{ufw}-skip-to-policy-input")
            for file in files:  # in the order of ufw-init
                run(f"{tool}-restore", "--noflush", text=Path(file).read_text())
            run(tool, "-A", "FORWARD", "-j", "DOCKER-USER")
        time.sleep(1)
        result = {}
        for (name, (_, _, prefix, prefix6)), container in zip(NETWORKS.items(), started[1:], strict=True):
            result[name] = {
                "out": [opens(container, "10.9.0.2"), opens(container, "fd09::2")],
                "in": [opens(outside, f"{prefix}.2"), opens(outside, f"{prefix6}::2")],
            }
        print(json.dumps(result))
    finally:
        for process in started:
            process.kill()


main(*sys.argv[1:])
