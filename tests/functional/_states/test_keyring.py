"""keyring.present with real keys from gpg: only a key with the pillar's fingerprint is installed."""

import pytest

from vault_cube import openpgp


@pytest.fixture
def key(gpg):
    return gpg.key("vendor")


def state(tmp_path, key, fingerprint, **more):
    return {"name": str(tmp_path / "keyrings/vendor.asc"), "url": f"file://{key}", "fingerprint": fingerprint, **more}


def test_the_right_key_is_installed_once(tmp_path, key, load_state):
    file, fingerprint = key
    arguments = state(tmp_path, file, fingerprint)
    assert load_state("keyring", test=True).present(**arguments)["result"] is None
    first = load_state("keyring").present(**arguments)
    assert first["result"] is True, first["comment"]
    assert first["changes"]
    file.unlink()  # an installed key is not fetched again
    assert load_state("keyring").present(**arguments)["changes"] == {}


def test_another_key_is_rejected_and_nothing_is_written(tmp_path, key, gpg, load_state):
    other, _ = gpg.key("impostor")
    refused = load_state("keyring").present(**state(tmp_path, other, key[1]))
    assert refused["result"] is False
    assert f"not {key[1]}" in refused["comment"]
    assert not (tmp_path / "keyrings").exists()


def test_a_second_key_in_the_file_is_rejected(tmp_path, key, gpg, load_state):
    both = tmp_path / "both.asc"
    both.write_bytes(gpg("--armor", "--export", key[1], gpg.key("second")[1]))
    assert load_state("keyring").present(**state(tmp_path, both, key[1]))["result"] is False


def test_a_replaced_keyring_is_drift_and_is_repaired(tmp_path, key, gpg, load_state):
    arguments = state(tmp_path, *key)
    load_state("keyring").present(**arguments)
    (tmp_path / "keyrings/vendor.asc").write_bytes(gpg.key("impostor")[0].read_bytes())
    repaired = load_state("keyring").present(**arguments)
    assert repaired["changes"]
    assert openpgp.primary_keys((tmp_path / "keyrings/vendor.asc").read_bytes()) == [key[1]]


def test_a_staged_file_is_used_in_place_of_the_url(tmp_path, key, load_state):
    file, fingerprint = key
    arguments = state(tmp_path, tmp_path / "nowhere.asc", fingerprint, staged=str(file))
    assert load_state("keyring").present(**arguments)["result"] is True


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n-----END PGP"]
)
def test_a_file_that_is_not_a_key_is_reported_in_one_line(tmp_path, content, load_state):
    file = tmp_path / "page"
    file.write_bytes(content)
    refused = load_state("keyring").present(**state(tmp_path, file, "0" * 40))
    assert refused["result"] is False
    assert "\n" not in refused["comment"]


def test_an_unreachable_url_and_plain_http_are_reported_in_one_line(tmp_path, load_state):
    for url in (f"file://{tmp_path}/nowhere", "http://127.0.0.1:9/key.asc"):
        refused = load_state("keyring").present(name=str(tmp_path / "k.asc"), url=url, fingerprint="0" * 40)
        assert refused["result"] is False
        assert url in refused["comment"]


def test_a_wrong_sha256_is_rejected(tmp_path, key, load_state):
    refused = load_state("keyring").present(**state(tmp_path, *key, sha256="0" * 64))
    assert refused["result"] is False
    assert "sha256" in refused["comment"]


def test_binary_and_armoured_keyrings_can_be_read(gpg, key):
    file, fingerprint = key
    assert openpgp.primary_keys(file.read_bytes()) == [fingerprint]
    assert openpgp.primary_keys(gpg("--export", fingerprint)) == [fingerprint]
    with pytest.raises(ValueError, match="truncated"):
        openpgp.primary_keys(gpg("--export", fingerprint)[:-10])
