"""Load the firewall in a tree's network namespace, as at boot, and connect to its ports from a second namespace.

Prints JSON: the ports that accept connections over IPv4 and IPv6, the policies, and whether a published container port
is closed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path


def run(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done


LISTEN = """
import socket, sys, threading
def serve(family, address, port):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port)); s.listen()
    while True: s.accept()[0].close()
for port in map(int, sys.argv[1:]):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        threading.Thread(target=serve, args=(family, address, port), daemon=True).start()
threading.Event().wait()
"""
CONNECT = """
import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
except OSError: sys.exit(1)
"""


def opens(space, address, port, seconds=2):
    inside = ("nsenter", f"--net=/proc/{space.pid}/ns/net") if space else ()
    return run(*inside, "python3", "-c", CONNECT, address, str(port), str(seconds), check=False).returncode == 0


def main(ports):
    started = []

    def keep(*words, **options):
        started.append(subprocess.Popen(words, **options))
        return started[-1]

    try:
        run("ip", "link", "set", "lo", "up")
        outside, container = keep("unshare", "--net", "sleep", "120"), keep("unshare", "--net", "sleep", "120")
        time.sleep(1)
        # a network cable of the box, and a container on Docker's bridge
        run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "far", "netns", str(outside.pid))
        run("ip", "link", "add", "docker0", "type", "bridge")
        # as the layer's udev rule does, which does not run here
        rule = Path("/etc/udev/rules.d/99-vault-cube-bridges.rules").read_text()
        run("ip", "link", "set", "docker0", "group", rule.rpartition("group ")[2].split('"')[0])
        run("ip", "link", "add", "vethc", "type", "veth", "peer", "name", "eth0", "netns", str(container.pid))
        run("ip", "link", "set", "vethc", "master", "docker0", "up")
        for words in (
            ("addr", "add", "10.9.0.1/24", "dev", "cable"),
            ("-6", "addr", "add", "fd09::1/64", "dev", "cable", "nodad"),
            ("link", "set", "cable", "up"),
            ("addr", "add", "172.17.0.1/16", "dev", "docker0"),
            ("link", "set", "docker0", "up"),
        ):
            run("ip", *words)
        for space, words in (
            (outside, ("addr", "add", "10.9.0.2/24", "dev", "far")),
            (outside, ("-6", "addr", "add", "fd09::2/64", "dev", "far", "nodad")),
            (outside, ("link", "set", "far", "up")),
            (container, ("addr", "add", "172.17.0.2/16", "dev", "eth0")),
            (container, ("link", "set", "eth0", "up")),
            (container, ("route", "add", "default", "via", "172.17.0.1")),
        ):
            run("nsenter", f"--net=/proc/{space.pid}/ns/net", "ip", *words)
        keep("python3", "-c", LISTEN, *map(str, ports))
        inner = ("nsenter", f"--net=/proc/{container.pid}/ns/net")
        keep(*inner, "python3", "-c", LISTEN, "80")
        keep("nsenter", f"--net=/proc/{outside.pid}/ns/net", "python3", "-c", LISTEN, "9000")
        # affects only this namespace
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        time.sleep(1)
        published = ("iptables", "-w", "-t", "nat", "-A", "PREROUTING", "-i", "cable", "-p", "tcp", "--dport", "8080")
        run(*published, "-j", "DNAT", "--to", "172.17.0.2:80")
        connections = {
            "before": {str(port): opens(outside, "10.9.0.1", port) for port in ports},
            "published before": opens(outside, "10.9.0.1", 8080),
        }
        # start the firewall as ufw.service does, then add Docker's chain to FORWARD as Docker does
        run("/usr/lib/ufw/ufw-init", "start")
        for words in (("-I", "FORWARD", "-j", "DOCKER-USER"), ("-A", "FORWARD", "-d", "172.17.0.2", "-j", "ACCEPT")):
            run("iptables", "-w", *words)
        connections |= {
            "4": {str(port): opens(outside, "10.9.0.1", port) for port in ports},
            "6": {str(port): opens(outside, "fd09::1", port) for port in ports},
            "inside": {str(port): opens(None, "127.0.0.1", port) for port in ports},
            "out": opens(None, "10.9.0.2", 9000),
            "published": opens(outside, "10.9.0.1", 8080),
            "policy": run("iptables", "-w", "-S", "INPUT").stdout.splitlines()[0],
            "policy 6": run("ip6tables", "-w", "-S", "INPUT").stdout.splitlines()[0],
        }
        # as on a restart of Docker, which keeps the existing chain and its rules
        run("iptables", "-w", "-D", "FORWARD", "-j", "DOCKER-USER")
        run("iptables", "-w", "-I", "FORWARD", "-j", "DOCKER-USER")
        connections["published after Docker's restart"] = opens(outside, "10.9.0.1", 8080)
        # the owner allows the port explicitly
        run(
            "iptables", "-w", "-A", "ufw-user-forward", "-p", "tcp", "-d", "172.17.0.2", "--dport", "80", "-j", "ACCEPT"
        )
        connections["published, allowed by name"] = opens(outside, "10.9.0.1", 8080)
        print(json.dumps(connections))
    finally:
        for process in started:
            process.kill()


main([int(port) for port in sys.argv[1:]])
