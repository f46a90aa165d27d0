"""The wheel tags that a target accepts depend on its Python and glibc."""

import pytest

from vault_cube.image.locks import pylock


@pytest.mark.parametrize(
    ("glibc", "newest", "refused"),
    [
        ("2.36", "manylinux_2_36_x86_64", "manylinux_2_37_x86_64"),
        ("2.39", "manylinux_2_39_x86_64", "manylinux_2_40_x86_64"),
        ("2.41", "manylinux_2_41_x86_64", "manylinux_2_42_x86_64"),
        ("2.43", "manylinux_2_43_x86_64", "manylinux_2_44_x86_64"),  # a release that no target has yet
    ],
)
def test_glibc_limits_the_manylinux_tags(glibc, newest, refused):
    platforms = {tag.platform for tag in pylock.tags("3.12", glibc)}
    assert {newest, "manylinux2014_x86_64", "linux_x86_64"} <= platforms
    assert refused not in platforms


def test_the_newest_platform_is_first():
    assert str(pylock.tags("3.13", "2.41")[0]) == "cp313-cp313-manylinux_2_41_x86_64"
