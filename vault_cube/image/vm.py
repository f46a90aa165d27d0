"""Working on states without building an image each time: Packer's source `vm`, fed with all that it needs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe
from vault_cube.image.disk import formats, raw_disk
from vault_cube.image.guest.cases import Expected
from vault_cube.image.guest.machine import choose_accelerator, lives_under_kvm
from vault_cube.image.guest.qemu import Disk, Hardware, Qemu
from vault_cube.image.guest.seed import seed, vanishing
from vault_cube.image.layers import chroot
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import step
from vault_cube.image.workspace import Workspace


def base_image(space: Workspace) -> Path:
    """The image of layer 1 alone, in build/<target>/vm; made when the layer has changed."""
    entries = recipe.make_layers(space, "base")
    folder = space.build / "vm"
    image = folder / f"base-{entries[-1].folder.name}.qcow2"
    if image.exists():
        return image
    with space.scratch("vm") as work, step("vm: the disk of layer 1"):
        raw_disk.make(space, entries, AptLock.read(space.locks / "apt.lock").epoch, work)
        packed = work / "disk.qcow2"
        formats.make(work / "disk.raw", {"qcow2": packed}, {}, work / "pieces.json", space.logs / "disk.log")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("base-*.qcow2"):
            old.unlink()
        shutil.move(packed, image.with_suffix(".part"))
    image.with_suffix(".part").rename(image)
    return image


def apply(space: Workspace, image: Path, qemu: Qemu, hardware: Hardware, layers: Sequence[str]) -> Path:
    """Boot an image by Packer, apply layers of this checkout inside over ssh, and keep the changed disk.

    image: is not changed. Returns the changed disk, build/<target>/vm/output/disk.qcow2.
    Raises VaultCubeError when Packer is missing or a layer fails; what failed is in Packer's output, on stderr.
    """
    if not shutil.which("packer"):
        raise VaultCubeError(
            "packer is missing: apt-get install packer, or where the archive has none (Debian 13, Ubuntu) install "
            "HashiCorp's and run `packer init packer/plugins`"
        )
    wanted, found = Expected.of(space.settings), Disk.of(image)
    with vanishing("vm") as work, seed(wanted.user, wanted.ssh_port) as key:
        shutil.copyfile(qemu.variables, work / "variables.fd")
        accelerator = choose_accelerator(Path("/dev/kvm"), lambda: lives_under_kvm(image, key, qemu, hardware, work))
        # Packer takes a program's name, not a command line
        programs = work / "bin"
        programs.mkdir()
        for name, words in (("qemu-system-x86_64", qemu.system), ("qemu-img", qemu.image)):
            _program(programs / name, words, qemu.environment)
        output = space.build / "vm/output"
        if output.exists():
            shutil.rmtree(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        variables = {
            "target": space.target,
            "layers": json.dumps(list(layers)),
            "ssh_user": wanted.user,
            "vm_ssh_port": str(wanted.ssh_port),
            "ssh_key": str(key.key),
            "vm_image": str(image.resolve()),
            "vm_seed": str(key.folder),
            "vm_work": str(work),
            "vm_qemu": str(programs / "qemu-system-x86_64"),
            "vm_firmware": str(qemu.code),
            "vm_accelerator": accelerator,
            "vm_memory_mib": str(hardware.memory_mib),
            "vm_cpus": str(hardware.cpus),
            "vm_disk_size": f"{found.grown(hardware) >> 20}M",
            "vm_output": str(output.resolve()),
        }
        words = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
        process = subprocess.Popen(
            # Packer's QEMU dies with Packer, and Packer with us
            [*chroot.unshare(network=True), "packer", "build", "-color=false", "-only=vm.*", *words, "packer/"],
            cwd=space.checkout,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "CHECKPOINT_DISABLE": "1",
                "PACKER_CACHE_DIR": str(work / "cache"),
            },
        )
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # Packer was interrupted, too: it stops its guest and removes its output
            process.wait()
            raise
        if status:
            raise VaultCubeError(f"packer failed with status {status}: see above what it was at")
    return output / "disk.qcow2"


def _program(path: Path, words: Sequence[str], environment: dict[str, str]) -> None:
    """A program that is a command line with its environment."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    path.write_text(f'#!/bin/sh\n{exports}exec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)
