"""The boot test's verdicts in the manifest of `make image`, and a real run of Packer's vm."""

import hashlib
import json
import shutil

import pytest

from vault_cube import verdicts
from vault_cube.image.guest.boot_check import CHECKS
from vault_cube.image.inside import vm


def digest(path):
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@pytest.mark.image
def test_all_checks_of_the_boot_test_have_passed_and_the_image_has_not_changed(image):
    manifest = json.loads(image.with_suffix(".manifest.json").read_text())
    checks = {check["check"]: check for check in manifest["boot_test"]["checks"]}
    assert {name: check["evidence"] for name, check in checks.items() if check["status"] != "ok"} == {}
    assert set(checks) == {"first boot", "shut down", *map(verdicts.name, CHECKS)}
    assert digest(image) == manifest["files"][image.name]["sha256"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("packer"), reason="Packer is not installed; not every archive has it")
def test_packers_vm_applies_a_layer_in_a_guest(space, qemu, hardware):
    base = vm.base_image(space)
    before = digest(base)
    changed = vm.apply(space, base, qemu, hardware, ["driver"])
    assert changed.stat().st_size > 1 << 20
    assert digest(base) == before
