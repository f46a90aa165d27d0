"""The boot test of the finished image: every promise kept; and Packer's vm, run for real."""

import hashlib
import os
from types import SimpleNamespace

import pytest

from vault_cube.image import vm
from vault_cube.image.boot_test import CASES, boot_test

pytestmark = pytest.mark.image


def digest(path):
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@pytest.mark.skipif(os.geteuid() != 0, reason="the guest gets a network of its own: needs root")
def test_every_promise_is_kept_and_the_image_is_not_changed(image, expected, qemu, hardware, tmp_path):
    before = digest(image)
    cases = boot_test(image, expected, qemu, hardware, tmp_path / "console.log")
    assert {case.name: case.evidence for case in cases if not case.passed} == {}
    # and all were asked, between the first boot and the shutdown
    assert len(cases) == len(CASES) + 2
    assert digest(image) == before


def test_packers_vm_applies_a_layer_inside(image, space, qemu, hardware, tmp_path):
    elsewhere = SimpleNamespace(checkout=space.checkout, settings=space.settings, target=space.target, build=tmp_path)
    before = digest(image)
    changed = vm.apply(elsewhere, image, qemu, hardware, ["base"])
    assert changed.stat().st_size > 1 << 20
    assert digest(image) == before
