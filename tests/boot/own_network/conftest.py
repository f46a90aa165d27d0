"""A guest per file, with a network of its own and a disk that lasts over reboots and power cuts."""

from pathlib import Path

import pytest
from lasting import Lasting

from vault_cube.image.guest import machine
from vault_cube.image.guest.seed import seed, vanishing


@pytest.fixture(scope="session")
def accelerator(image, expected, qemu, hardware):
    with seed(expected.user, expected.ssh_port) as login, vanishing("accelerator") as work:
        return machine.choose_accelerator(
            Path("/dev/kvm"), lambda: machine.lives_under_kvm(image, login, qemu, hardware, work)
        )


@pytest.fixture(scope="module")
def disk(image, expected, qemu, hardware, accelerator, tmp_path_factory):
    """The disk of a guest that has not been started yet."""
    console = tmp_path_factory.mktemp("faults") / "console.log"
    with seed(expected.user, expected.ssh_port) as login, vanishing("lasting") as work:
        lasting = Lasting(image, login, qemu, hardware, work, console, accelerator)
        try:
            yield lasting
        finally:
            lasting.end()
