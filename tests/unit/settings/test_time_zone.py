"""The time zone is one that the target's tzdata has, whatever the builder's has."""

import pytest

from vault_cube.settings import PillarError, legacy_zones


@pytest.mark.parametrize(
    ("target", "zone"),
    [
        ("debian-12", "US/Eastern"),
        ("debian-12", "Asia/Calcutta"),
        ("debian-13", "America/New_York"),
        ("ubuntu-24.04", "Europe/Berlin"),
        ("ubuntu-24.04", "Etc/UTC"),
        ("debian-13", "UTC"),
    ],
)
def test_a_zone_that_the_target_has(checked, target, zone):
    assert checked(target, {"base": {"timezone": zone}}).base.timezone == zone


@pytest.mark.parametrize(
    ("target", "zone", "present"),
    [
        ("debian-13", "US/Eastern", "America/New_York"),
        ("ubuntu-24.04", "US/Pacific", "America/Los_Angeles"),
        ("debian-13-nvidia", "Japan", "Asia/Tokyo"),
        ("debian-13", "Europe/Kiev", "Europe/Kyiv"),
        ("ubuntu-24.04", "EST5EDT", "America/New_York"),
    ],
)
def test_an_old_name_is_refused_with_the_present_one(checked, target, zone, present):
    with pytest.raises(PillarError, match=rf"base:timezone {zone} is an old name.*use {present}, or add tzdata-legacy"):
        checked(target, {"base": {"timezone": zone}})


def test_no_present_name_is_an_old_one():
    assert not set(legacy_zones.PRESENT.values()) & legacy_zones.PRESENT.keys()


def test_with_the_package_an_old_name_is_taken(checked):
    packages = [*checked("debian-13").base.packages, "tzdata-legacy"]
    assert (
        checked("debian-13", {"base": {"timezone": "US/Eastern", "packages": packages}}).base.timezone == "US/Eastern"
    )
