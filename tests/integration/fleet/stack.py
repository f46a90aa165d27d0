"""A fleet with real daemons: a master that `state.apply fleet` made, salt-api behind nginx, boxes, and pepper."""

import base64
import json
import pickle
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import yaml
from copied import SOURCES
from fake_nvml import FakeNvml
from machines import TOP, Machine, Network

PYTHON = TOP / ".venv/bin/python"
CHECKOUT = "/srv/checkout"
PEOPLE = {"vera": "viewer", "otto": "operator", "anna": "admin", "nora": None}
# states of the layers need a network or a whole image; these do not
STATES = ["validation.manifest", "validation.beacon", "validation.alerts", "validation.fleet"]
# a short time for answers, so that a box that was cut off is noticed soon; many logins, because every pepper logs in
SERVER = {
    "names": ["10.77.0.1", "fleet.example"],
    "batch": 2,
    "canaries": ["b1"],
    "checks": [],
    "answer_s": 15,
    "logins_per_minute": 240,
}
SALT_CALL = f"""#!/bin/sh
export PYTHONPATH=/opt/vault-cube/checkout PYTHONDONTWRITEBYTECODE=1
exec {PYTHON} -P -c 'import sys; sys.argv[0] = "salt-call"; from salt.scripts import salt_call; salt_call()' "$@"
"""
SALT_MINION = SALT_CALL.replace("salt-call", "salt-minion").replace("salt_call", "salt_minion")


class Fleet:
    """`master`, `boxes` and `laptop`, from which people use pepper."""

    def __init__(self, library, server=()):
        self.folder = Path(tempfile.mkdtemp(prefix="vcf-", dir="/run"))
        self.library = library
        self.boxes = {}
        self.passwords = {name: f"{name}-{time.time_ns():x}" for name in PEOPLE}
        self.checkout = self.folder / "checkout"
        self._repository()
        self.master = Machine("master", self.folder)
        self.network = Network(self.master)
        self._make_master({**SERVER, **dict(server)})
        self.laptop = Machine("laptop", self.folder)
        self.network.plug(self.laptop)
        certificate = self.master.path("/etc/vault-cube/fleet/tls/ca.crt").read_text()
        self.laptop.path("/root/ca.crt").write_text(certificate)

    def _repository(self):
        """A repository with the checkout's files, whose states need neither a network nor an image."""
        self.checkout.mkdir()
        present = [TOP / name for name in SOURCES if (TOP / name).exists()]
        subprocess.run(["cp", "-r", *present, self.checkout], check=True)
        (self.checkout / "pillar/local.sls").unlink(missing_ok=True)
        (self.checkout / "salt/top.sls").write_text(yaml.safe_dump({"base": {"*": STATES}}))
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("the first release")

    def git(self, *words):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, "-C", str(self.checkout), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message):
        """Commit the repository's files. Returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def salt_call(self, *words, network=True, ok=True):
        """Run salt-call in the checkout on the master, as `make master` does."""
        return self.master.run(
            "sh", "-c", f'cd {CHECKOUT} && exec {PYTHON} -P -m vault_cube.salt_call "$@"', "sh", *words,
            network=network, ok=ok, timeout=600, PYTHONPATH=CHECKOUT, PYTHONDONTWRITEBYTECODE="1",
        )  # fmt: skip

    def _make_master(self, server):
        subprocess.run(["cp", "-a", self.checkout, self.master.path(CHECKOUT)], check=True)
        self.master.path(f"{CHECKOUT}/pillar/local.sls").write_text(yaml.safe_dump({"fleet": {"server": server}}))
        # packages and wheels come over this machine's network
        self.applied = self.salt_call("--out=json", "state.apply", "fleet", network=False, ok=False)
        assert self.applied.returncode == 0, self.applied.stdout[-4000:] + self.applied.stderr[-2000:]
        for name, role in PEOPLE.items():
            group = ["--groups", f"fleet-{role}"] if role else []
            self.master.run("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", *group, name)
        lines = "".join(f"{name}:{password}\n" for name, password in self.passwords.items())
        self.master.run("chpasswd", input=lines)
        self.start_master()
        self.start_api()
        self.fingerprint = until(lambda: self.runner("fleet.fingerprint", ok=False))

    def start_master(self):
        self.master.start_unit("vault-cube-fleet-master")
        until(lambda: self.listens(4505) and self.listens(4506))

    def start_api(self):
        self.master.start_unit("vault-cube-fleet-api")
        self.master.start_unit("vault-cube-fleet-tls")
        until(lambda: self.listens(8444) and self.listens(8443))

    def listens(self, port):
        return f":{port} " in self.master.run("ss", "-Hltn").stdout

    def runner(self, function, *words, ok=True):
        """Run a runner on the master as root. Returns what it returned."""
        ran = self.master.run("/usr/local/sbin/fleet-salt-run", "--out=json", function, *words, ok=False, timeout=900)
        self.status = ran.returncode
        try:
            return json.loads(ran.stdout)
        except ValueError:
            if ok:
                raise AssertionError(f"{function}: {ran.stdout}{ran.stderr}") from None
            return None

    def release(self):
        """Make the repository's commit a release on the master."""
        subprocess.run(["cp", "-a", f"{self.checkout}/.", self.master.path(CHECKOUT)], check=True)
        return json.loads(self.salt_call("--out=json", "fleet.release").stdout)["local"]["commit"]

    def add(self, name, profile=None):
        """A box with the first release, with fake GPUs, in no fleet yet."""
        box = Machine(name, self.folder)
        self.network.plug(box)
        self.boxes[name] = box
        # what the image's packages bring, and states write into
        present = ("/etc/cloud/cloud.cfg.d",)
        for folder in ("/opt/vault-cube/checkout", "/opt/vault-cube/salt/bin", "/etc/salt", "/run/nvml", *present):
            box.path(folder).mkdir(parents=True, exist_ok=True)
        files = subprocess.run(["git", "-C", self.checkout, "ls-files"], check=True, capture_output=True, text=True)
        folders = {line.partition("/")[0] for line in files.stdout.splitlines()} - {"docs", "README.md", "Makefile"}
        subprocess.run(
            ["cp", "-r", *(self.checkout / name for name in folders), box.path("/opt/vault-cube/checkout")], check=True
        )
        for program, text in (("salt-call", SALT_CALL), ("salt-minion", SALT_MINION)):
            box.path(f"/opt/vault-cube/salt/bin/{program}").write_text(text)
            box.path(f"/opt/vault-cube/salt/bin/{program}").chmod(0o755)
        box.path("/etc/salt/minion").write_text(masterless())
        shutil.copy(self.library, box.path("/run/nvml/libnvidia-ml.so.1"))
        self.gpus(name, profile) if profile else None
        return box

    def gpus(self, name, profile="4x5090", lost=None):
        """Give a box other fake GPUs; lost: the index of one that does not answer."""
        fake = FakeNvml(self.boxes[name].path("/run/nvml/state"), self.library)
        fake.profile(profile)
        for number, gpu in enumerate(fake.state["gpus"]):
            gpu["uuid"] = f"GPU-5eed{sum(name.encode()):04x}-0000-4000-8000-{number:012x}"
        if lost is not None:
            fake.gpu(lost, error=15)
        fake.save()

    def nvml(self, name):
        """The environment in which a box finds its fake GPUs."""
        has = self.boxes[name].path("/run/nvml/state").exists()
        return {"LD_LIBRARY_PATH": "/run/nvml", "FAKE_NVML": "/run/nvml/state"} if has else {}

    def call(self, name, *words, ok=True):
        """Run the box's own salt-call."""
        words = ("/opt/vault-cube/salt/bin/salt-call", "--local", "--retcode-passthrough", "--out=json", *words)
        return self.boxes[name].run(*words, ok=ok, **self.nvml(name))

    def join(self, name, fingerprint=None, **fleet):
        """Let a box join as its owner would: two values in local.sls, and the states."""
        values = {"master": "10.77.0.1", "master_key": fingerprint or self.fingerprint, "id": name, **fleet}
        gates = {"driver": {"gates": {"gpus": 0}}}
        local = self.boxes[name].path("/opt/vault-cube/checkout/pillar/local.sls")
        local.write_text(yaml.safe_dump({"fleet": values, **gates}))
        self.call(name, "state.apply")
        self.start_minion(name)

    def start_minion(self, name):
        self.boxes[name].start_unit("vault-cube-fleet", **self.nvml(name))

    def finger(self, name):
        """The fingerprint that a box shows to its owner."""
        return json.loads(self.call(name, "fleet.fingerprint").stdout)["local"]

    def accept(self, name):
        """Accept a box's key by the fingerprint that the box shows."""
        self.until(lambda: name in (self.runner("fleet.keys", ok=False) or {}).get("waiting", {}), name)
        assert self.runner("fleet.accept", name, self.finger(name)) == f"{name} is accepted"

    def until(self, condition, name):
        """Wait for a condition of a box; on failure, show the ends of the logs."""
        try:
            return until(condition, limit=180)
        except AssertionError:
            logs = [self.boxes[name].path(path) for path in ("/var/log/salt/fleet", "/tmp/vault-cube-fleet.out")]
            logs.append(self.master.path("/var/log/vault-cube/fleet/master"))
            texts = [f"{log}\n{log.read_text()[-3000:] if log.exists() else 'missing'}" for log in logs]
            raise AssertionError("\n".join([f"waited too long for {name}", *texts])) from None

    def answers(self, name):
        words = ("/usr/local/sbin/fleet-salt", "--out=json", "--static", "-t", "4", name, "test.ping")
        return f'"{name}": true' in self.master.run(*words, ok=False).stdout

    def pepper(self, who, *words, ok=False, **variables):
        """Run fleet-pepper on the laptop."""
        return self.laptop.run(
            PYTHON, "-m", "vault_cube.fleet.pepper", *words, ok=ok, timeout=900,
            **{"SALTAPI_URL": "https://10.77.0.1:8443", "SALTAPI_CA": "/root/ca.crt", "SALTAPI_EAUTH": "pam",
               "SALTAPI_USER": who, "SALTAPI_PASS": self.passwords[who], "PYTHONPATH": str(TOP),
               "PYTHONDONTWRITEBYTECODE": "1", **variables},
        )  # fmt: skip

    def ask(self, case):
        """Send a request as it is from the laptop. Returns status (0 without an answer), text, headers, seconds."""
        if not hasattr(self, "asker"):
            words = [PYTHON, TOP / "tests/integration/fleet/ask.py", "10.77.0.1", "8443", "/root/ca.crt"]
            self.asker = subprocess.Popen(
                self.laptop.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self.asker.stdin.write(base64.b64encode(pickle.dumps(case)).decode() + "\n")
        self.asker.stdin.flush()
        return json.loads(self.asker.stdout.readline())

    def token(self, who):
        """Log in, as pepper does. Returns the token."""
        body = {"username": who, "password": self.passwords[who], "eauth": "pam"}
        answer = self.ask(request("/login", json=body))
        assert answer["status"] == 200, answer
        return json.loads(answer["text"])["return"][0]["token"]

    def end(self):
        for machine in [*self.boxes.values(), getattr(self, "laptop", None), getattr(self, "master", None)]:
            if machine:
                machine.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def request(path="/", *, json=None, data=None, method="POST", token=None, **headers):
    """A request for `Fleet.ask`."""
    headers = headers | ({"X-Auth-Token": token} if token else {})
    return {"path": path, "json": json, "data": data, "method": method, "headers": headers}


def masterless():
    """/etc/salt/minion as salt/base/salt.sls writes it."""
    checkout = "/opt/vault-cube/checkout"
    options = {"include": f"{checkout}/conf/common.conf", "file_roots": {"base": [f"{checkout}/salt"]}}
    options |= {"vault_cube": {"target": "debian-12", "checkout": checkout, "seed": "/var/lib/vault-cube/seed.json"}}
    options |= {"pillar_roots": {"base": [f"{checkout}/pillar"]}}
    kinds = {"module": "modules", "states": "states", "grains": "grains", "pillar": "pillar", "beacons": "beacons"}
    return yaml.safe_dump(options | {f"{kind}_dirs": [f"{checkout}/_{name}"] for kind, name in kinds.items()})


def until(condition, limit=90):
    """Wait for a condition; fail after `limit` seconds. Returns its value."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.5)
