"""Run Packer's source `vm`: boot a base image and apply layers to it, for work on states without building an image."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe
from vault_cube.image.disk import formats, raw_disk
from vault_cube.image.guest.cases import Expected
from vault_cube.image.guest.machine import choose_accelerator, lives_under_kvm
from vault_cube.image.guest.qemu import Disk, Hardware, Qemu
from vault_cube.image.guest.seed import Seed, seed, vanishing
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import chroot
from vault_cube.image.progress import step
from vault_cube.image.workspace import Workspace


def base_image(space: Workspace) -> Path:
    """Return the image of the base layer in build/<target>/vm; it is rebuilt if the layer has changed."""
    inputs = Inputs.read(space)
    entries = recipe.make_layers(space, inputs, "base")
    folder = space.build / "vm"
    image = folder / f"base-{entries[-1].folder.name}.qcow2"
    if image.exists():
        return image
    with space.scratch("vm") as work, step("vm: disk of the base layer"):
        raw_disk.make(space, entries, inputs.packages.epoch, work)
        packed = work / "disk.qcow2"
        formats.make(work / "disk.raw", {"qcow2": packed}, {}, work / "pieces.json", space.logs / "disk.log")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("base-*.qcow2"):
            old.unlink()
        shutil.move(packed, image.with_suffix(".part"))
    image.with_suffix(".part").rename(image)
    return image


def apply(space: Workspace, image: Path, qemu: Qemu, hardware: Hardware, layers: Sequence[str]) -> Path:
    """Boot a copy of an image with Packer and apply layers of this checkout to it over ssh.

    Returns the changed disk, build/<target>/vm/output/disk.qcow2; `image` itself is not changed.
    Raises VaultCubeError if Packer is missing or fails; Packer's output on stderr has the reason.
    """
    if not shutil.which("packer"):
        raise VaultCubeError(
            "packer is missing: run `apt-get install packer`, or if the archive has no such package (Debian 13, "
            "Ubuntu), install HashiCorp's and run `packer init packer/plugins`"
        )
    wanted = Expected.of(space.settings)
    output = space.build / "vm/output"
    with vanishing("vm") as work, seed(wanted.user, wanted.ssh_port) as key:
        shutil.copyfile(qemu.variables, work / "variables.fd")
        accelerator = choose_accelerator(Path("/dev/kvm"), lambda: lives_under_kvm(image, key, qemu, hardware, work))
        # Packer accepts the path of a program, but no command line
        programs = work / "bin"
        programs.mkdir()
        for name, words in (("qemu-system-x86_64", qemu.system), ("qemu-img", qemu.image)):
            _program(programs / name, words, qemu.environment)
        if output.exists():
            shutil.rmtree(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        variables = {
            "target": space.target,
            "layers": json.dumps(list(layers)),
            "vm_qemu": str(programs / "qemu-system-x86_64"),
            "vm_firmware": str(qemu.code),
            "vm_accelerator": accelerator,
            "vm_work": str(work),
            "vm_output": str(output.resolve()),
            **_guest_variables(image, key, hardware),
        }
        _run_packer(space, variables, programs, work / "cache")
    return output / "disk.qcow2"


def _guest_variables(image: Path, key: Seed, hardware: Hardware) -> dict[str, str]:
    """Return Packer's variables for the guest: its disk, its hardware and its login."""
    return {
        "ssh_user": key.user,
        "ssh_key": str(key.key),
        "vm_ssh_port": str(key.port),
        "vm_seed": str(key.folder),
        "vm_image": str(image.resolve()),
        "vm_disk_size": f"{Disk.of(image).grown(hardware) >> 20}M",
        "vm_memory_mib": str(hardware.memory_mib),
        "vm_cpus": str(hardware.cpus),
    }


def _run_packer(space: Workspace, variables: Mapping[str, str], programs: Path, cache: Path) -> None:
    """Run Packer's source `vm`. programs: folder in which Packer finds QEMU. Raises VaultCubeError."""
    words = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
    packer = process.start(
        # the namespaces end QEMU when Packer ends, and Packer when this process ends
        [*chroot.unshare(network=True), "packer", "build", "-color=false", "-only=vm.*", *words, "packer/"],
        cwd=space.checkout,
        stdin=process.DEVNULL,
        stdout=sys.stderr,
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CHECKPOINT_DISABLE": "1",
            "PACKER_CACHE_DIR": str(cache),
        },
    )
    try:
        status = packer.wait()
    except KeyboardInterrupt:
        # Packer received the signal, too: wait until it has stopped its guest and removed its output
        packer.wait()
        raise
    if status:
        raise VaultCubeError(f"packer failed with status {status}: see its messages above")


def _program(path: Path, words: Sequence[str], environment: dict[str, str]) -> None:
    """Write a program that sets an environment and runs a command line."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    path.write_text(f'#!/bin/sh\n{exports}exec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)
