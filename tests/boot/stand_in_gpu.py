"""A stand-in for NVIDIA's driver in a guest that has no GPU: device nodes, `nvidia-smi`, and a CDI specification.

It is no GPU, and says so by its name. A node counts as a GPU when it opens, which is what a container's device rules
decide; the nodes are those of devices that Docker gives to nobody (fuse and the loop control).
"""

import json

NODES = {"0": (10, 229), "1": (10, 237)}

SMI = r"""#!/bin/sh
# stand-in of the tests: a GPU is a node /dev/nvidiaN that opens
for n in 0 1; do
  (: </dev/nvidia$n) 2>/dev/null || continue
  found=1
  case "$1" in
    -L) echo "GPU $n: stand-in (UUID: GPU-stand-in-$n)" ;;
    *) echo "$n, 24576, 4, 16, 30, Enabled, 580.0, stand-in" ;;
  esac
done
[ "$found" ] || { echo 'No devices were found'; exit 6; }
"""
SMI_PATH = "/usr/local/bin/nvidia-smi"
LIBRARY = "/opt/stand-in/libcuda.so.1"
SPECIFICATION = "/etc/cdi/nvidia.yaml"


def specification():
    """The stand-in's CDI specification: each node, and all of them (JSON is YAML)."""
    node = {n: {"path": f"/dev/nvidia{n}", "type": "c", "major": major, "minor": minor, "permissions": "rw"}
            for n, (major, minor) in NODES.items()}  # fmt: skip
    devices = [{"name": n, "containerEdits": {"deviceNodes": [node[n]]}} for n in NODES]
    devices.append({"name": "all", "containerEdits": {"deviceNodes": list(node.values())}})
    library = {"hostPath": LIBRARY, "containerPath": LIBRARY, "options": ["ro", "bind"]}
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": devices,
        "containerEdits": {"mounts": [library]},
    }


def install(box):
    """Put the stand-in into a guest."""
    nodes = " && ".join(
        f"rm -f /dev/nvidia{n} && mknod -m 666 /dev/nvidia{n} c {major} {minor}"
        for n, (major, minor) in NODES.items()
    )  # fmt: skip
    box.ssh(f"sudo -n sh -c 'modprobe -a fuse loop; {nodes}; mkdir -p /etc/cdi /opt/stand-in; echo 1 > {LIBRARY}'")
    box.ssh(f"sudo -n tee {SMI_PATH} >/dev/null && sudo -n chmod 755 {SMI_PATH}", stdin=SMI)
    write_specification(box)


def write_specification(box):
    box.ssh(f"sudo -n tee {SPECIFICATION} >/dev/null", stdin=json.dumps(specification()))


def remove(box):
    """Take the stand-in out again."""
    box.ssh(f"sudo -n rm -rf /dev/nvidia0 /dev/nvidia1 /opt/stand-in {SMI_PATH} {SPECIFICATION}")
