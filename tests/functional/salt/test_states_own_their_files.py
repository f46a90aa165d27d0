"""Every state that writes a file or a folder sets its owner, group and mode: otherwise a change of them is no drift."""

import pytest
from rendered import TARGETS, low

OWNED = {"file.managed", "file.serialize", "file.directory", "file.keyvalue", "file.blockreplace", "file.line",
         "file.append", "file.recurse", "file.copy"}  # fmt: skip
FIELDS = ("user", "group", "mode")
# without a field, with the reason
WITHOUT = {"/efi": ("mode", "on a box this is the mounted partition, whose mode comes from the mount options")}

# switched on by an owner's pillar
OPTIONAL = {
    "fleet": {"master": "salt.example", "master_key": ":".join(32 * ["ab"])},
    "driver": {"power": {"limit_w": 450, "pcie_aspm": "performance"}},
    "validation": {
        "packages": ["htop", "smartmontools", "prometheus-node-exporter", "prometheus"],
        "monitoring": {
            "prometheus": {"enabled": True},
            "dcgm": {"image": f"registry.example/dcgm-exporter@sha256:{64 * 'a'}"},
        },
    },
}
PILLARS = [{}, OPTIONAL]
BOTH = pytest.mark.parametrize("pillar", PILLARS, ids=["default", "optional states"])


def lacking(chunk):
    """List the fields that a state does not set."""
    name = f"{chunk['state']}.{chunk['fun']}"
    if name not in OWNED and chunk["state"] != "shared":
        return []
    exempt = WITHOUT.get(chunk["name"], ("",))[0]
    return [field for field in FIELDS if field != exempt and not str(chunk.get(field, ""))]


@BOTH
@pytest.mark.parametrize("target", TARGETS)
def test_every_file_and_folder_has_owner_group_and_mode(salt_of, target, pillar):
    chunks = low(salt_of(target, pillar))
    assert len([chunk for chunk in chunks if chunk["state"] == "file"]) > 50
    assert {chunk["name"]: lacking(chunk) for chunk in chunks if lacking(chunk)} == {}


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_in_which_text_is_replaced_has_a_state_with_owner_group_and_mode(salt_of, target):
    """file.replace cannot set them."""
    chunks = low(salt_of(target))
    replaced = {chunk["name"] for chunk in chunks if chunk["fun"] == "replace"}
    assert len(replaced) >= 3
    assert replaced - {chunk["name"] for chunk in chunks if chunk["fun"] == "managed"} == set()


@pytest.mark.parametrize("function", ["file.managed", "file.keyvalue", "file.directory", "shared.json_object"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_state_without_a_field_is_reported(function, field):
    state, _, fun = function.partition(".")
    chunk = {"state": state, "fun": fun, "name": "/etc/x", "user": "root", "group": 0, "mode": "0644"}
    assert lacking(chunk) == []
    del chunk[field]
    assert lacking(chunk) == [field]


@BOTH
@pytest.mark.parametrize("target", TARGETS)
def test_nobody_but_root_can_write_what_root_reads(salt_of, target, pillar):
    for chunk in low(salt_of(target, pillar)):
        if chunk["state"] in ("file", "shared") and chunk.get("mode"):
            assert not int(str(chunk["mode"]), 8) & 0o022, chunk["name"]


@pytest.mark.parametrize("target", TARGETS)
def test_links_replace_files(salt_of, target):
    links = [chunk for chunk in low(salt_of(target)) if f"{chunk['state']}.{chunk['fun']}" == "file.symlink"]
    assert len(links) >= 3
    assert [chunk["name"] for chunk in links if not chunk.get("force")] == []
