"""Files that several programs write: our entries are set, all others are kept, and a damaged file is repaired."""

import json

import pytest

from vault_cube import shared_files

BY = "salt/base/x.sls"
ROOT, ESP = "LABEL=root / ext4 defaults 0 1", "LABEL=ESP /efi vfat nofail 0 0"
BLOCK = [f"# begin: written by {BY}; entries outside of this block are kept", ROOT, ESP, f"# end: written by {BY}"]
OWN = "LABEL=data /data ext4 nofail 0 2"
SWAP = "/swap.img none swap sw,comment=cloudconfig 0 0"


def text(*lines):
    return "".join(f"{line}\n" for line in lines)


# present lines, lines afterwards
BLOCKS = {
    "no file": ([], BLOCK),
    "the block alone": (BLOCK, BLOCK),
    "an owner's line after it": ([*BLOCK, OWN], [*BLOCK, OWN]),
    "an owner's line before it": ([OWN, *BLOCK], [OWN, *BLOCK]),
    "cloud-init's line": ([*BLOCK, "", SWAP], [*BLOCK, "", SWAP]),
    "no block": (["# /etc/fstab", OWN], ["# /etc/fstab", OWN, *BLOCK]),
    "a changed line": ([BLOCK[0], "LABEL=root / ext4 ro 0 1", ESP, BLOCK[3], OWN], [*BLOCK, OWN]),
    "a removed line": ([BLOCK[0], ESP, BLOCK[3], OWN], [*BLOCK, OWN]),
    "a line put into the block": ([*BLOCK[:2], "LABEL=x /x ext4 ro 0 1", *BLOCK[2:], OWN], [*BLOCK, OWN]),
    "the end is missing": ([*BLOCK[:3], OWN], [*BLOCK, OWN]),
    "a file of version 1.0.0": (["# written by salt/base/x.sls", ROOT, ESP, OWN], [OWN, *BLOCK]),
    "a header with more words": (["# written by salt/base/x.sls from pillar a", ROOT, OWN], [OWN, *BLOCK]),
    "twice": ([*BLOCK, OWN, *BLOCK], [*BLOCK, OWN]),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_a_block_keeps_what_is_outside(case):
    present, wanted = BLOCKS[case]
    merged = shared_files.block(text(*present), [ROOT, ESP], BY)
    assert merged.text == text(*wanted)
    assert shared_files.block(merged.text, [ROOT, ESP], BY).text == merged.text
    assert merged.others == [line for line in wanted if line in (OWN, SWAP)]


@pytest.mark.parametrize(
    ("present", "wanted"), [([], []), (BLOCK, []), ([OWN, *BLOCK], [OWN]), ([OWN], [OWN]), (["intruder"], ["intruder"])]
)
def test_without_lines_the_block_is_removed(present, wanted):
    assert shared_files.block(text(*present), [], BY).text == text(*wanted)


def test_a_file_without_a_last_line_end_stays_readable():
    assert shared_files.block(OWN, [ROOT], BY).text.splitlines()[0] == OWN


ENTRIES = {"127.0.0.1": ["localhost"], "127.0.1.1": ["box-7"]}


def test_the_block_of_another_state_file_is_not_the_owner_s():
    text = shared_files.block(f"{OWN}\n", ["ours"], "salt/base/a.sls").text
    both = shared_files.block(text, ["ours too"], "salt/base/b.sls")
    assert both.others == [OWN]
    assert "ours\n" in both.text


def test_the_lines_after_a_block_without_its_end_are_the_owner_s():
    text = shared_files.block("", ["ours"], "salt/base/a.sls").text.replace("# end: written by salt/base/a.sls\n", OWN)
    assert OWN in shared_files.block(text, ["ours too"], "salt/base/b.sls").others


# present lines, lines afterwards, entries of others
HOSTS = {
    "no file": ([], ["127.0.0.1 localhost", "127.0.1.1 box-7"], 0),
    "the owner's host": (
        ["10.0.0.9 models", "127.0.0.1 localhost", "127.0.1.1 box-7"],
        ["10.0.0.9 models", "127.0.0.1 localhost", "127.0.1.1 box-7"],
        1,
    ),
    "cloud-init's template": (
        ["# Your system has configured 'manage_etc_hosts'", "127.0.1.1 box-7.lab box-7", "127.0.0.1\tlocalhost"],
        ["# Your system has configured 'manage_etc_hosts'", "127.0.1.1 box-7.lab box-7", "127.0.0.1\tlocalhost"],
        1,
    ),
    "another name": (["127.0.0.1 localhost", "127.0.1.1 old"], ["127.0.0.1 localhost", "127.0.1.1 box-7 old"], 1),
    "a comment": (["127.0.0.1 localhost", "127.0.1.1 # box-7"], ["127.0.0.1 localhost", "127.0.1.1 box-7  # box-7"], 0),
    "two lines of an address": (
        ["127.0.0.1 localhost", "127.0.1.1 a", "127.0.1.1 box-7"],
        ["127.0.0.1 localhost", "127.0.1.1 a", "127.0.1.1 box-7"],
        1,
    ),
}


@pytest.mark.parametrize("case", HOSTS)
def test_hosts_keep_the_owner_s_names(case):
    present, wanted, others = HOSTS[case]
    merged = shared_files.hosts(text(*present), ENTRIES)
    assert merged.text.splitlines() == wanted
    assert len(merged.others) == others
    assert shared_files.hosts(merged.text, ENTRIES).text == merged.text


VALUES = {"ip": "127.0.0.1", "log-opts": {"max-size": "1m"}, "exec-opts": ["native.cgroupdriver=systemd"]}
# present text, owner's content that is kept
KEPT = {
    "a mirror": ({"registry-mirrors": ["http://x"]}, {"registry-mirrors": ["http://x"]}),
    "a runtime": ({"runtimes": {"nvidia": {"path": "n"}}, "ip": "0.0.0.0"}, {"runtimes": {"nvidia": {"path": "n"}}}),
    "a log option": ({"log-opts": {"labels": "a"}}, {"log-opts": {"labels": "a", "max-size": "1m"}}),
    "an option in a list": (
        {"exec-opts": ["isolation=x", "native.cgroupdriver=cgroupfs"]},
        {"exec-opts": ["isolation=x", "native.cgroupdriver=systemd"]},
    ),
    "null for a mapping": ({"log-opts": None}, {"log-opts": {"max-size": "1m"}}),
    "a word for a mapping": ({"log-opts": "all"}, {"log-opts": {"max-size": "1m"}}),
}


@pytest.mark.parametrize("case", KEPT)
def test_json_keeps_the_owner_s_keys(case):
    present, kept = KEPT[case]
    merged = shared_files.json_object(json.dumps(present), VALUES)
    assert json.loads(merged.text) == {**VALUES, **kept}
    assert not merged.damage
    assert shared_files.json_object(merged.text, VALUES).text == merged.text


def test_json_that_has_our_keys_keeps_its_layout():
    present = json.dumps({**VALUES, "x": 1}, indent=7)
    assert shared_files.json_object(present, VALUES).text == present


@pytest.mark.parametrize(
    "present", ["", "\n", "{", "[]", '"x"', "null", '{"a": 1} {"b": 2}', "# comment\n{}", "'a': 1"]
)
def test_json_that_cannot_be_read_is_written_again(present):
    merged = shared_files.json_object(present, VALUES)
    assert json.loads(merged.text) == VALUES
    assert bool(merged.damage) == bool(present.strip())


UFW = {"ENABLED": "yes"}
# present text, text afterwards
ASSIGNMENTS = {
    "emptied": ("", "LOGLEVEL=low\nENABLED=yes\n"),
    "off": ("# c\nENABLED=no\nLOGLEVEL=full\n", "# c\nENABLED=yes\nLOGLEVEL=full\n"),
    "twice": ("ENABLED=yes\nLOGLEVEL=low\nENABLED=no\n", "ENABLED=yes\nLOGLEVEL=low\nENABLED=yes\n"),
    "blanks": ("  ENABLED = no\nLOGLEVEL=low", "ENABLED=yes\nLOGLEVEL=low\n"),
    "commented out": ("#ENABLED=yes\nLOGLEVEL=low\n", "#ENABLED=yes\nLOGLEVEL=low\nENABLED=yes\n"),
    "NUL bytes of a crash": ("\0\0\0\nLOGLEVEL=low\n", "LOGLEVEL=low\nENABLED=yes\n"),
}


@pytest.mark.parametrize("case", ASSIGNMENTS)
def test_assignments_are_set_and_others_kept(case):
    present, wanted = ASSIGNMENTS[case]
    merged = shared_files.assignments(present, UFW, {"LOGLEVEL": "low"})
    assert merged.text == wanted
    assert shared_files.assignments(merged.text, UFW, {"LOGLEVEL": "low"}).text == wanted


def rules(*texts):
    return "*filter\n### RULES ###\n\n" + "\n".join(texts) + "\n### END RULES ###\n\n### LOGGING ###\nCOMMIT\n"


OURS = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=7661756c742d63756265\n-A ufw-user-input -p tcp\n"
OLD = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n"
WEB = "### tuple ### allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 443 -j ACCEPT\n"
ROUTE = "### tuple ### route:allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in comment=776562\n-A ufw-user-forward -j ACCEPT\n"
BOTH = "### tuple ### allow any 53 0.0.0.0/0 any 0.0.0.0/0 in\n-A a -p tcp\n-A a -p udp\n"


@pytest.mark.parametrize(
    ("present", "others"),
    [
        (rules(OURS), []),
        (rules(OLD), []),
        (rules(OURS, WEB), [WEB]),
        (rules(OURS, WEB, ROUTE, BOTH), [WEB, ROUTE, BOTH]),
        (rules(OURS.replace(" 22 ", " 9100 ")), []),  # a port that the pillar no longer has
        (rules(WEB.replace("443", "222")), [WEB.replace("443", "222")]),
        ("", []),
        ("damaged", []),
    ],
)
def test_the_owner_s_rules_of_ufw(present, others):
    assert shared_files.other_rules(present, [22]) == [rule.strip() for rule in others]
