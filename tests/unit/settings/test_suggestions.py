"""The error for an unknown key names the file, the key, and a similar key."""

import pytest

from vault_cube.settings import PillarError

MISTYPED = {
    "base:ssh:prot": "base:ssh:port",
    "base:hostnam": "base:hostname",
    "bases": "base",
    "firmware": None,
    "frameworks:vllm:replica": "frameworks:vllm:replicas",
    "base:users:vaultadmin:ssh_key": "base:users:vaultadmin:ssh_keys",  # below a name that the pillar defines
    "gpu:health:celsius:warn": "gpu:health:celsius:warning",
    "gpu:health:window": "gpu:health:window_s",  # without its unit
    "gpu:health:xid": "gpu:health:xid_hours",
    "gpu:health:answer_s": "gpu:answer_s",  # in the wrong section
    "driver:kernel_cmdline": "image:disk:kernel_cmdline",
    "benchmark:thresholds:cpu:vllm_tokens_s": "benchmark:thresholds:cpu:vllm_tokens_per_s",
    "base:colour": None,  # no key is similar
    "driver:description": None,
}


@pytest.mark.parametrize(("key", "similar"), MISTYPED.items(), ids=MISTYPED)
def test_the_error_for_an_unknown_key_suggests_a_similar_one(checked, key, similar):
    local = 1
    for part in reversed(key.split(":")):
        local = {part: local}
    with pytest.raises(PillarError) as error:
        checked("debian-12", local)
    end = f"did you mean {similar}?" if similar else "docs/pillar.md lists all keys"
    line = key.count(":") + 1
    assert str(error.value) == f"pillar/local.sls: line {line}: {key}: no such key; {end}"


def test_a_key_in_a_list_is_suggested_with_its_number(checked):
    source = {"archive": "debian", "miror": "http://mirror.example", "snapshot": None, "suites": ["x"]}
    source |= {"components": ["main"], "keyring": "/k.gpg"}
    with pytest.raises(PillarError) as error:
        checked("debian-12", {"archive": {"sources": [source]}})
    assert sorted(str(error.value).splitlines(), reverse=True) == [
        "pillar/local.sls: line 7: archive:sources:0:miror: no such key; did you mean archive:sources:0:mirror?",
        "pillar/local.sls: line 3: archive:sources:0:mirror: this key is missing: set it",
    ]
