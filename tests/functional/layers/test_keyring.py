"""keyring.present with keys made by the real gpg: only the key with the pillar's fingerprint reaches apt."""

import pytest

from vault_cube import openpgp


@pytest.fixture
def key(gpg):
    return gpg.key("vendor")


def state(tmp_path, key, fingerprint, **more):
    return {"name": str(tmp_path / "keyrings/vendor.asc"), "url": f"file://{key}", "fingerprint": fingerprint, **more}


def test_the_right_key_is_put_there_once(tmp_path, key, load_state):
    file, fingerprint = key
    asked = state(tmp_path, file, fingerprint)
    assert load_state("keyring", test=True).present(**asked)["result"] is None
    first = load_state("keyring").present(**asked)
    assert first["result"] is True, first["comment"]
    assert first["changes"]
    file.unlink()  # at rest it asks nobody
    assert load_state("keyring").present(**asked)["changes"] == {}


def test_another_key_is_refused_and_nothing_is_written(tmp_path, key, gpg, load_state):
    other, _ = gpg.key("impostor")
    refused = load_state("keyring").present(**state(tmp_path, other, key[1]))
    assert refused["result"] is False
    assert f"not {key[1]}" in refused["comment"]
    assert not (tmp_path / "keyrings").exists()


def test_a_second_key_in_the_file_is_refused(tmp_path, key, gpg, load_state):
    both = tmp_path / "both.asc"
    both.write_bytes(gpg("--armor", "--export", key[1], gpg.key("second")[1]))
    assert load_state("keyring").present(**state(tmp_path, both, key[1]))["result"] is False


def test_a_replaced_keyring_is_drift_and_is_repaired(tmp_path, key, gpg, load_state):
    asked = state(tmp_path, *key)
    load_state("keyring").present(**asked)
    (tmp_path / "keyrings/vendor.asc").write_bytes(gpg.key("impostor")[0].read_bytes())
    repaired = load_state("keyring").present(**asked)
    assert repaired["changes"]
    assert openpgp.primary_keys((tmp_path / "keyrings/vendor.asc").read_bytes()) == [key[1]]


def test_what_the_build_fetched_comes_first(tmp_path, key, load_state):
    file, fingerprint = key
    asked = state(tmp_path, tmp_path / "nowhere.asc", fingerprint, staged=str(file))
    assert load_state("keyring").present(**asked)["result"] is True


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n-----END PGP"]
)
def test_what_is_no_key_is_one_clear_line(tmp_path, content, load_state):
    file = tmp_path / "page"
    file.write_bytes(content)
    refused = load_state("keyring").present(**state(tmp_path, file, "0" * 40))
    assert refused["result"] is False
    assert "\n" not in refused["comment"]


def test_no_network_and_plain_http_are_one_clear_line(tmp_path, load_state):
    for url in (f"file://{tmp_path}/nowhere", "http://127.0.0.1:9/key.asc"):
        refused = load_state("keyring").present(name=str(tmp_path / "k.asc"), url=url, fingerprint="0" * 40)
        assert refused["result"] is False
        assert url in refused["comment"]


def test_a_wrong_sha256_is_refused(tmp_path, key, load_state):
    refused = load_state("keyring").present(**state(tmp_path, *key, sha256="0" * 64))
    assert refused["result"] is False
    assert "sha256" in refused["comment"]


def test_binary_and_armoured_keyrings_read_alike(gpg, key):
    file, fingerprint = key
    assert openpgp.primary_keys(file.read_bytes()) == [fingerprint]
    assert openpgp.primary_keys(gpg("--export", fingerprint)) == [fingerprint]
    with pytest.raises(ValueError, match="truncated"):
        openpgp.primary_keys(gpg("--export", fingerprint)[:-10])
