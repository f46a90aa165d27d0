"""The states' configuration of a vendor's repository, with the real apt and real signatures.

A local repository with stand-in packages replaces the vendor's; salt/driver/repository.jinja renders the source, key
and pin files.
"""

import pytest
from vendor import Vendor


@pytest.fixture
def vendor(tmp_path, gpg):
    return Vendor(tmp_path, gpg)


def test_with_a_good_signature_only_the_pinned_packages_are_available(vendor):
    vendor.package("toolkit", "1.0")
    vendor.package("libtoolkit1", "1.0")
    vendor.package("openssh-server", "99:99")
    vendor.publish()
    vendor.configure(["toolkit", "libtoolkit*"])
    status, output = vendor.update()
    assert status == 0, output
    assert vendor.candidate("toolkit") == "1.0"
    assert vendor.candidate("libtoolkit1") == "1.0"
    assert vendor.candidate("openssh-server") == "(none)"


def test_a_pinned_version_stays_although_a_newer_one_exists(vendor):
    for version in ("1.0", "2.0"):
        vendor.package("toolkit", version)
    vendor.publish()
    vendor.configure(["toolkit"], version="1.0")
    assert vendor.update()[0] == 0
    assert vendor.candidate("toolkit") == "1.0"


def test_without_a_pinned_version_the_newest_is_used(vendor):
    for version in ("1.0", "2.0"):
        vendor.package("toolkit", version)
    vendor.publish()
    vendor.configure(["toolkit"])
    assert vendor.update()[0] == 0
    assert vendor.candidate("toolkit") == "2.0"


def test_the_wrong_key_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish(signer=vendor.gpg.key("impostor")[1])
    vendor.configure(["toolkit"])
    status, output = vendor.update()
    assert status != 0
    assert "NO_PUBKEY" in output
    assert vendor.candidate("toolkit") is None


def test_a_missing_key_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish()
    vendor.configure(["toolkit"], key=b"")
    status, output = vendor.update()
    assert status != 0
    assert "not signed" in output or "NO_PUBKEY" in output
    assert vendor.candidate("toolkit") is None


def test_an_expired_key_is_rejected(vendor):
    key, fingerprint = vendor.gpg.key("past", expires="seconds=86400", born="20200101T000000")
    vendor.package("toolkit", "1.0")
    vendor.publish(signer=fingerprint, born="20200101T010000")
    vendor.configure(["toolkit"], key=key.read_bytes())
    status, output = vendor.update()
    assert status != 0
    assert "EXPKEYSIG" in output or "expired" in output.lower()


def test_an_expired_release_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish(days=-1)
    vendor.configure(["toolkit"])
    status, output = vendor.update()
    assert status != 0
    assert "expired" in output


def test_an_unsigned_release_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish(signer="nobody")
    vendor.configure(["toolkit"])
    status, output = vendor.update()
    assert status != 0
    assert "not signed" in output


def test_a_changed_index_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish()
    (vendor.repo / "Packages").write_text((vendor.repo / "Packages").read_text().replace("stand-in", "not this"))
    vendor.configure(["toolkit"])
    assert vendor.update()[0] != 0
