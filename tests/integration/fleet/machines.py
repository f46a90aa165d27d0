"""Machines in namespaces of their own, on a network of their own: overlays over this machine's root, or over layers.

Nothing of this machine is changed: each machine writes to a tmpfs that exists in its namespace only, and all of it
disappears with its first process, which the kernel ends when the test process ends.
"""

import os
import shlex
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).parents[3]
# the files that every machine needs from outside of the root file system
BOUND = (TOP, Path(os.path.realpath(TOP / ".venv")))

ROOT = """
mkdir -p $DIR; mount -t tmpfs -o mode=755 tmpfs $DIR; mkdir $DIR/upper $DIR/work $DIR/root
cp -L /etc/resolv.conf $DIR/resolv.conf 2>/dev/null || touch $DIR/resolv.conf
mount -t overlay overlay -o lowerdir=$LOWER,upperdir=$DIR/upper,workdir=$DIR/work $DIR/root
cd $DIR/root
hostname $NAME
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys 2>/dev/null || :
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lock
keep() { mkdir -p ".$1"; mount --rbind "$1" ".$1"; }
rm -rf etc/resolv.conf; cp $DIR/resolv.conf etc/resolv.conf
mount -t tmpfs -o mode=1777 tmpfs tmp
for folder in $BOUND; do keep "$folder"; done
ip link set lo up
touch ready
# the shell also reaps orphans: a daemon that was killed would otherwise count as running
exec chroot . sh -c 'while :; do sleep 3600 & wait; done'
"""


class Machine:
    """A machine; `address` is None before it has a cable. layers: trees of its file system, the highest one first."""

    def __init__(self, name, folder, layers=(Path("/"),)):
        self.name = name
        environment = {"DIR": str(folder / name), "NAME": name, "BOUND": " ".join(map(str, BOUND))}
        environment["LOWER"] = ":".join(map(str, layers))
        # an init that ends with this process, and ends all others of its namespace
        self.init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--uts", "--net", "--fork",
             "--kill-child", "--propagation", "private", "sh", "-euc", ROOT],
            env=os.environ | environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.address = None
        self.daemons = {}
        self.pid = self._ready()

    def _ready(self):
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children")
        for _ in range(300):
            time.sleep(0.05)
            if self.init.poll() is not None:
                raise RuntimeError(f"{self.name}: {self.init.stderr.read()}")
            pids = children.read_text().split()
            if pids and Path(f"/proc/{pids[0]}/root/ready").exists() and "while" in command_line(pids[0]):
                return int(pids[0])
        raise RuntimeError(f"{self.name} is not ready")

    def path(self, inside):
        """The path of a file of the machine, seen from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def command(self, *words, network=True):
        """The command line that runs a command in the machine. network: in the machine's, or in this machine's."""
        own = ["-n"] if network else []
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", *own, "-r", "-w", *map(str, words)]

    def run(self, *words, network=True, ok=True, input=None, timeout=300, **variables):
        """Run a command in the machine. ok: fail if it fails. variables: more environment. Returns the process."""
        ran = subprocess.run(
            self.command(*words, network=network), capture_output=True, text=True, check=False, input=input,
            timeout=timeout, env=os.environ | variables | {"HOME": "/root", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        if ok and ran.returncode:
            raise AssertionError(
                f"{self.name}: {shlex.join(map(str, words))}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
            )
        return ran

    def start(self, name, *words, **variables):
        """Start a daemon in the machine; its output is in /tmp/NAME.out there."""
        with self.path(f"/tmp/{name}.out").open("w") as out:
            self.daemons[name] = subprocess.Popen(
                self.command(*words), stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
                env=os.environ | variables | {"HOME": "/root", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip

    def start_unit(self, unit, **variables):
        """Start what a unit of the machine starts, with its user and runtime directory, as systemd would."""
        text = self.path(f"/etc/systemd/system/{unit}.service").read_text().replace("\\\n", " ")
        settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        user = settings.get("User")
        if folder := settings.get("RuntimeDirectory"):
            self.run("install", "-d", *(["-o", user, "-g", user] if user else []), f"/run/{folder}")
        become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        self.start(unit, *become, *shlex.split(settings["ExecStart"]), **variables)

    def kill(self, name, signal="KILL"):
        """End all processes of a daemon."""
        pids = self.processes(name)
        for pid in pids:
            subprocess.run(["kill", f"-{signal}", str(pid)], check=False, capture_output=True)
        self.daemons.pop(name).wait(timeout=60)
        for _ in range(600):
            if not any(command_line(pid) for pid in pids):
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.name}: {name} does not end")

    def processes(self, name):
        """The pids of a daemon: the descendants of what `start` started."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(status.parent.name))
        pids, todo = [], [self.daemons[name].pid]
        while todo:
            pids.append(todo.pop())
            todo += parents.get(pids[-1], [])
        return pids

    def memory_mib(self, name):
        """Memory of a daemon's processes, with shared pages divided among all that use them (PSS), in MiB."""
        total = 0
        for pid in self.processes(name):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    def processor_s(self, name):
        """Processor time that a daemon's processes have used, in seconds."""
        total = 0
        for pid in self.processes(name):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])  # utime, stime (proc(5)), after the name
        return total / os.sysconf("SC_CLK_TCK")

    def end(self):
        """End the machine and everything in it."""
        self.init.kill()
        self.init.wait(timeout=60)


class Network:
    """A bridge in the namespace of its first machine; all machines have a cable to it."""

    def __init__(self, first):
        self.hub = first
        first.address = "10.77.0.1"
        first.run("ip", "link", "add", "br0", "type", "bridge")
        first.run("ip", "addr", "add", "10.77.0.1/16", "dev", "br0")
        first.run("ip", "link", "set", "br0", "up")
        self.number = 0

    def plug(self, machine):
        """Give a machine a cable and an address."""
        self.number += 1
        machine.address = f"10.77.{1 + self.number // 200}.{1 + self.number % 200}"
        machine.cable = f"v{self.number}"
        host = ["nsenter", "-t", str(self.hub.pid), "-n"]
        far = ["peer", "name", "eth0", "netns", str(machine.pid)]
        subprocess.run([*host, "ip", "link", "add", machine.cable, "type", "veth", *far], check=True)
        subprocess.run([*host, "ip", "link", "set", machine.cable, "master", "br0", "up"], check=True)
        machine.run("ip", "addr", "add", f"{machine.address}/16", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")

    def cut(self, machine):
        """Pull a machine's cable."""
        self.hub.run("ip", "link", "set", machine.cable, "down")

    def mend(self, machine):
        """Plug it in again."""
        self.hub.run("ip", "link", "set", machine.cable, "up")


def command_line(pid):
    """The command line of a process of this machine; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
