"""The CDI specification of the GPUs: which device nodes and driver files a container gets.

`python -m vault_cube.gpu.cdi FILE` writes it from what the box has now: the GPUs that answer, their device nodes, and
the installed driver's libraries. It contains no hooks: see docs/decisions/cdi-without-hooks.md.

Format: Container Device Interface, github.com/cncf-tags/container-device-interface, SPEC.md. Device names and nodes are
those of `nvidia-ctk cdi generate`, so that the same `docker run --device nvidia.com/gpu=0` works with either.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vault_cube import process
from vault_cube.errors import VaultCubeError, shown
from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.facts import versions
from vault_cube.gpu.read.host import Host

if TYPE_CHECKING:
    from vault_cube.gpu.fields import CdiGpu, DeviceNode, Mount, Specification

KIND = "nvidia.com/gpu"

# the oldest version that allows a device name to begin with a digit; Docker 25 and newer read it
VERSION = "0.5.0"

REQUIRED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
OPTIONAL_NODES = ("/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
REQUIRED_LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")

LIBRARY_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",  # the dynamic linker's default in Debian and Ubuntu
    "/usr/lib64",  # and in the Red Hat and SUSE families
    "/usr/local/nvidia/lib64",  # first in LD_LIBRARY_PATH of images made from nvidia/cuda
)

# Triton, and with it torch.compile and vLLM, looks for libcuda in the output of `ldconfig -p`, which does not list it
# here; the variable is Triton's own setting for that case (triton/backends/nvidia/driver.py)
ENVIRONMENT = (f"TRITON_LIBCUDA_PATH={LIBRARY_FOLDERS[0]}",)


def identity(device: Device) -> CdiGpu:
    """Ask one GPU for what its CDI devices are named after; runs in the session's child."""
    mig = device.ask("nvmlDeviceGetMigMode")
    return {
        "index": device.index,
        "uuid": device.ask("nvmlDeviceGetUUID"),
        "minor": device.ask("nvmlDeviceGetMinorNumber"),
        "mig": bool(mig and mig[0]),
    }


def offered(cards: Iterable[CdiGpu], machine: Host) -> tuple[dict[str, list[str]], list[str]]:
    """Choose the GPUs that containers can get.

    cards: entries of `session.each(identity)`. Returns CDI device name → paths of its nodes (each GPU by index and by
    UUID, and `all`), and one line for each GPU that is left out.
    """
    devices: dict[str, list[str]] = {}
    nodes: list[str] = []
    left_out = []
    for card in cards:
        node = f"/dev/nvidia{card.get('minor')}"
        if "problem" in card:
            left_out.append(f"{card['problem']}: left out")
        elif card["mig"]:
            left_out.append(f"GPU {card['index']} is in MIG mode: left out, MIG instances are not supported here")
        elif card["uuid"] is None or card["minor"] is None:
            left_out.append(f"GPU {card['index']}: the driver gives no UUID or no minor number: left out")
        elif not _is_device(machine, node):
            left_out.append(f"GPU {card['index']}: {node} is missing: left out; `nvidia-modprobe -c {card['minor']}`")
        else:
            devices |= {str(card["index"]): [node], card["uuid"]: [node]}
            nodes.append(node)
    return devices | ({"all": nodes} if nodes else {}), left_out


def shared_nodes(machine: Host) -> list[str]:
    """List the nodes that every container with a GPU needs. Raises VaultCubeError where CUDA could not start."""
    for node in REQUIRED_NODES:
        if not _is_device(machine, node):
            raise VaultCubeError(f"{node} is missing: run `nvidia-modprobe -c 0 -u`; `journalctl -k -g NVRM` shows why")
    return [*REQUIRED_NODES, *(node for node in OPTIONAL_NODES if _is_device(machine, node))]


def libraries(cache: str, driver_version: str) -> dict[str, str]:
    """Find the driver's libraries: every name by which the box's dynamic linker finds a file of this driver version.

    cache: output of `ldconfig -p`. Returns name → path of the file, links resolved. Raises VaultCubeError where libcuda
    or libnvidia-ml of this version is not among them.
    """
    paths: dict[str, str] = {}
    for line in cache.splitlines():
        name, _, rest = line.strip().partition(" (")
        flags, arrow, path = rest.partition(") => ")
        # the first entry of a name is the one that the linker takes; 32-bit libraries have other flags
        if not arrow or "x86-64" not in flags or name in paths:
            continue
        file = Path(path).resolve()
        if file.name.endswith(f".so.{driver_version}") and file.is_file():
            paths[name] = str(file)
    for name in REQUIRED_LIBRARIES:
        if name not in paths:
            raise VaultCubeError(
                f"`ldconfig -p` lists no {name} of driver {driver_version}: install the library of that version, or "
                "reboot if the driver was updated"
            )
    return paths


def programs(machine: Host) -> dict[str, str]:
    """Find the driver's command line tools in /usr/bin: name → path of the file, links resolved."""
    files = {name: (machine.root / "usr/bin" / name).resolve() for name in PROGRAMS}
    return {name: str(file) for name, file in files.items() if file.is_file()}


def specification(
    devices: dict[str, list[str]], nodes: list[str], library_files: dict[str, str], program_files: dict[str, str]
) -> Specification:
    """Compose the CDI specification of `offered`, `shared_nodes`, `libraries` and `programs`."""
    mounts = [_mount(file, f"{folder}/{name}") for folder in LIBRARY_FOLDERS for name, file in library_files.items()]
    mounts += [_mount(file, f"/usr/bin/{name}") for name, file in program_files.items()]
    return {
        "cdiVersion": VERSION,
        "kind": KIND,
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [_node(path) for path in paths]}}
            for name, paths in devices.items()
        ],
        "containerEdits": {
            "env": list(ENVIRONMENT),
            "deviceNodes": [_node(path) for path in nodes],
            "mounts": mounts,
        },
    }


def _node(path: str) -> DeviceNode:
    # type, major and minor are left to the container engine, which reads them from the node itself
    return {"path": path, "permissions": "rw"}


def _mount(file: str, inside: str) -> Mount:
    return {"hostPath": file, "containerPath": inside, "options": ["ro", "nosuid", "nodev", "bind"]}


def _is_device(machine: Host, path: str) -> bool:
    # a container engine leaves an empty folder where somebody mounted a node that was not there
    return (machine.root / path.lstrip("/")).is_char_device()


def write(file: Path, spec: Specification) -> None:
    """Replace the specification at once: Docker reads the folder whenever something in it changes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Docker reads .json and .yaml only
    new = file.with_suffix(".new")
    new.write_text("# written by vault-cube-cdi.service\n" + yaml.safe_dump(spec, sort_keys=False))
    new.chmod(0o644)
    new.replace(file)


def link_by_number(machine: Host, nodes: Iterable[str]) -> None:
    """Make the links /dev/char/MAJOR:MINOR, which udev does not make for NVIDIA's nodes.

    systemd resolves a container's device rules by them; without them the container loses its GPUs at
    `systemctl daemon-reload` (nvidia-container-toolkit issue 48).
    """
    folder = machine.root / "dev/char"
    folder.mkdir(exist_ok=True)
    for node in nodes:
        path = machine.root / node.lstrip("/")
        number = path.stat().st_rdev
        link = folder / f"{os.major(number)}:{os.minor(number)}"
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(path, folder))


def of_this_box(session: Session, machine: Host, cache: str) -> tuple[Specification, list[str]]:
    """Make the specification of the box as it is now.

    cache: output of `ldconfig -p`. Returns the specification, and one line for each GPU that is left out. Raises
    VaultCubeError where no container could use a GPU.
    """
    driver = versions(session, machine)
    if "problem" in driver:
        raise VaultCubeError(driver["problem"])
    if "driver_version" not in driver:
        raise VaultCubeError("the driver does not report its version: run `nvidia-smi`")
    devices, left_out = offered(session.each(identity), machine)
    if not devices:
        raise VaultCubeError("; ".join(left_out) or "the driver works and finds no GPU: `lspci -d 10de:`")
    nodes = shared_nodes(machine)
    return specification(devices, nodes, libraries(cache, driver["driver_version"]), programs(machine)), left_out


def refresh(file: Path, session: Session, machine: Host, cache: str) -> tuple[Specification, list[str]]:
    """Write the specification and the links to its nodes; arguments, result and errors are those of `of_this_box`.

    After an error there is no specification: an outdated one would name files and devices that are gone.
    """
    try:
        spec, left_out = of_this_box(session, machine, cache)
    except VaultCubeError:
        file.unlink(missing_ok=True)
        raise
    edits = [spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])]
    link_by_number(machine, {node["path"] for edit in edits for node in edit["deviceNodes"]})
    write(file, spec)
    return spec, left_out


def main(arguments: list[str]) -> int:
    """Write the specification. Returns the exit status; an error is one line."""
    parser = argparse.ArgumentParser(prog="vault_cube.gpu.cdi", description="write the CDI specification of the GPUs")
    parser.add_argument("file", type=Path, help="where to write it; Docker reads /etc/cdi and /var/run/cdi")
    file: Path = parser.parse_args(arguments).file
    try:
        cache = process.run(["/sbin/ldconfig", "-p"]).stdout
        with Session() as session:
            spec, left_out = refresh(file, session, Host(), cache)
    except VaultCubeError as err:
        print(shown(err), file=sys.stderr)
        return 1
    except OSError as err:
        print(f"{err}: cannot write {file}; run it as root", file=sys.stderr)
        return 1
    for line in left_out:
        print(line, file=sys.stderr)
    print(f"{file}: {KIND}: {', '.join(device['name'] for device in spec['devices'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
