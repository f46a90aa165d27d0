"""A stand-in for NVIDIA's driver in a guest without a GPU: nodes, libraries, `nvidia-smi`, CDI specification, runtime.

It is not a GPU, and its names contain "stand-in". A node that can be opened counts as a GPU; a container's device rules
decide whether it can. The nodes are devices to which Docker gives no container access (fuse and the loop control).
"""

import base64
import json

NODES = {"0": (10, 229), "1": (10, 237)}
# prints the numbers of the nodes that can be opened
OPENS = "for n in 0 1; do (: </dev/nvidia$n) 2>/dev/null && echo $n; done; true"
SMI_PATH = "/usr/local/bin/nvidia-smi"
LIBRARY = "/opt/stand-in/libnvidia-ml.so.1"
CUDA_LIBRARY = "/opt/stand-in/libcuda.so.1"
# path on the box → path in a container
MOUNTS = {
    LIBRARY: "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    CUDA_LIBRARY: "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    SMI_PATH: SMI_PATH,
}

# the program that runs in a container
SMI = r"""#!/bin/sh
# stand-in of the tests: a GPU is a node /dev/nvidiaN that can be opened
for n in 0 1; do
  (: </dev/nvidia$n) 2>/dev/null || continue
  found=1
  echo "GPU $n: stand-in (UUID: GPU-stand-in-$n)"
done
[ "$found" ] || { echo 'No devices were found'; exit 6; }
"""
# like nvidia-container-runtime, for Docker without CDI: adds the devices to the container's specification
RUNTIME = f"""#!/usr/bin/python3
import json, os, sys
if "--bundle" in sys.argv:
    file = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    with open(file) as handle:
        config = json.load(handle)
    wanted = dict(line.split("=", 1) for line in config["process"]["env"]).get("NVIDIA_VISIBLE_DEVICES")
    for name, (major, minor) in {NODES!r}.items():
        if wanted in ("all", name):
            node = {{"type": "c", "major": major, "minor": minor}}
            device = {{**node, "path": "/dev/nvidia" + name, "fileMode": 0o666}}
            config["linux"].setdefault("devices", []).append(device)
            config["linux"]["resources"]["devices"].append({{**node, "allow": True, "access": "rw"}})
    if wanted:
        for source, path in {MOUNTS!r}.items():
            config["mounts"].append({{"source": source, "destination": path, "options": ["ro", "bind"]}})
    with open(file, "w") as handle:
        json.dump(config, handle)
os.execvp("runc", ["runc", *sys.argv[1:]])
"""
RUNTIME_PATH = "/usr/local/bin/nvidia-container-runtime"
STATE = "/opt/stand-in/gpus.state"
# prefix of a command that uses the fake NVML
ENVIRONMENT = f"env LD_LIBRARY_PATH=/opt/stand-in FAKE_NVML={STATE}"
SPECIFICATION = "/etc/cdi/nvidia.yaml"


def specification():
    """Return the stand-in's CDI specification, with a device per node and one for all of them (JSON is valid YAML)."""
    node = {n: {"path": f"/dev/nvidia{n}", "type": "c", "major": major, "minor": minor, "permissions": "rw"}
            for n, (major, minor) in NODES.items()}  # fmt: skip
    devices = [{"name": n, "containerEdits": {"deviceNodes": [node[n]]}} for n in NODES]
    devices.append({"name": "all", "containerEdits": {"deviceNodes": list(node.values())}})
    mounts = [{"hostPath": source, "containerPath": path, "options": ["ro", "bind"]} for source, path in MOUNTS.items()]
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": devices,
        "containerEdits": {"mounts": mounts},
    }


def install(box, nvml, cuda):
    """Install the stand-in in a guest. nvml: a FakeNvml with one GPU per node. cuda: file for libcuda."""
    nodes = " && ".join(
        f"rm -f /dev/nvidia{n} && mknod -m 666 /dev/nvidia{n} c {major} {minor}"
        for n, (major, minor) in NODES.items()
    )  # fmt: skip
    box.ssh(f"sudo -n sh -c 'modprobe -a fuse loop; {nodes}; mkdir -p /etc/cdi /opt/stand-in'")
    copy(box, nvml.library, LIBRARY)
    copy(box, cuda, CUDA_LIBRARY)
    box.ssh(f"sudo -n tee {STATE} >/dev/null", stdin=nvml.file.read_text())
    for path, program in ((SMI_PATH, SMI), (RUNTIME_PATH, RUNTIME)):
        box.ssh(f"sudo -n tee {path} >/dev/null && sudo -n chmod 755 {path}", stdin=program)
    box.ssh(f"sudo -n tee {SPECIFICATION} >/dev/null", stdin=json.dumps(specification()))


def copy(box, file, path):
    """Copy a binary file of this machine into the guest."""
    content = base64.b64encode(file.read_bytes()).decode()
    box.ssh(f"base64 -d | sudo -n tee {path} >/dev/null", stdin=content)


def verdicts(box):
    """Run layer.check runtime. Returns {check: (status, evidence)} and the exit status."""
    call = "salt-call --local --log-level=quiet --out=json layer.check runtime"
    done = box.ssh(f"sudo -n {ENVIRONMENT} {call}", timeout_s=1800, check=False)
    checks = json.loads(done.stdout)["local"]["checks"]
    return {check["check"]: (check["status"], check["evidence"]) for check in checks}, done.returncode


def remove(box):
    """Remove the stand-in from a guest."""
    box.ssh(f"sudo -n rm -rf /dev/nvidia0 /dev/nvidia1 /opt/stand-in {SMI_PATH} {RUNTIME_PATH} {SPECIFICATION}")
