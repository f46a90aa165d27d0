"""The verdict that `make image` put into the manifest; and Packer's vm, run for real."""

import hashlib
import json
import shutil

import pytest

from vault_cube.image import vm
from vault_cube.image.guest.boot_check import CASES


def digest(path):
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@pytest.mark.image
def test_the_image_was_booted_every_promise_was_asked_and_kept_and_the_file_did_not_change(image):
    manifest = json.loads(image.with_suffix(".manifest.json").read_text())
    cases = {case["name"]: case for case in manifest["boot_test"]}
    assert {name: case["evidence"] for name, case in cases.items() if not case["passed"]} == {}
    assert set(cases) == {"first boot", "shut down", *(case.__name__.replace("_", " ") for case in CASES)}
    assert digest(image) == manifest["files"][image.name]["sha256"]


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("packer"), reason="Packer is not installed: this machine's archive may not have it"
)
def test_packers_vm_applies_a_layer_inside(space, qemu, hardware):
    base = vm.base_image(space)
    before = digest(base)
    changed = vm.apply(space, base, qemu, hardware, ["driver"])
    assert changed.stat().st_size > 1 << 20
    assert digest(base) == before
