"""Strings of the pillar reach the states unchanged, or the schema refuses them: YAML reads every state file again.

A value of the pillar is replaced by a harmless word and by hostile ones. The states must differ in that value only.
"""

import copy
import json
from functools import partial
from pathlib import Path

import pytest
from copied import chosen, merged
from rendered import dotted, states

from vault_cube.settings import PillarError, check

TOP = Path(__file__).parents[3]
# between them, these targets have every feature
TARGETS = ("debian-12", "debian-13-nvidia", "ubuntu-24.04")
WORD = "Zq9harmless"
HOSTILE = (
    "off",
    "012",
    "1e3",
    "a: b",
    "x # y",
    "it's",
    'say "x"',
    "{{ x }}",
    "- x",
    " x ",
    "2026-11-29",
    "%",
    "a\nb: c",
)
# mappings whose keys are names
NAMES = ("base:users", "base:system_users", "base:system_groups", "frameworks:commands")
FEATURES = (
    {"validation": {"monitoring": {"dcgm": {"image": "registry.example/dcgm@sha256:" + 64 * "a"}}}},
    {
        "validation": {
            "monitoring": {"prometheus": {"enabled": True}},
            "packages": ["prometheus", "prometheus-node-exporter"],
        }
    },
    {"frameworks": {"vllm": {"enabled": True}}},
    {"frameworks": {"kernels": ["pytorch"]}},
    {"base": {"units_off": ["cups.service"]}},
    {"base": {"ssh": {"forward_ports": [8000]}}},
    {"fleet": {"master": "master.example", "master_key": ":".join(32 * ["ab"]), "id": "box-1"}},
)


def pillar_of(target):
    """The pillar of a target, with features that most targets leave off, as far as the target can have them."""
    pillar = merged(*chosen(target))
    for part in FEATURES:
        if not refused(merged(pillar, part)):
            pillar = merged(pillar, part)
    return pillar


def changes(pillar):
    """Yield functions that put a value into a pillar: one for each string, and for a name of each mapping of names."""

    def value_of(path, value):
        changed = copy.deepcopy(pillar)
        node = changed
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
        return changed

    def name_of(path, value):
        changed = copy.deepcopy(pillar)
        node = changed
        for part in path[:-1]:
            node = node[part]
        first = next(iter(node[path[-1]]))
        node[path[-1]] = {value if key == first else key: part for key, part in node[path[-1]].items()}
        return changed

    for path in strings(pillar):
        yield path, partial(value_of, path)
    for name in NAMES:
        path = tuple(name.split(":"))
        node = pillar[path[0]][path[1]] if len(path) == 2 else pillar[path[0]][path[1]][path[2]]
        if node:
            yield path, partial(name_of, path)


def strings(node, path=()):
    """Yield the paths of the strings; of a list, only those of its first entry."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from strings(value, (*path, key))
    elif isinstance(node, list) and node:
        yield from strings(node[0], (*path, 0))
    elif isinstance(node, str):
        yield path


def refused(pillar):
    try:
        check(pillar)
    except PillarError:
        return True
    return False


def replaced(node, value):
    if isinstance(node, dict):
        return {replaced(key, value): replaced(part, value) for key, part in node.items()}
    if isinstance(node, list):
        return [replaced(part, value) for part in node]
    return node.replace(WORD, value) if isinstance(node, str) else node


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=pytest.mark.slow) for name in TARGETS[:-1]] + [TARGETS[-1]]
)
def test_every_string_of_the_pillar_arrives(target, salt_of):
    opts = dotted(salt_of(target).opts)
    pillar = pillar_of(target)
    files = sorted((TOP / "salt").glob("*/*.sls"))
    normal = {file: states(file, pillar, opts) for file in files}
    assert not {str(file): result for file, result in normal.items() if isinstance(result, str)}
    texts = {file: file.read_text() for file in files}
    wrong, seen = [], 0
    for path, change in changes(pillar):
        word = change(WORD)
        for file in files:
            # a file names the section, or a part of it that it loops over
            if path[0] not in texts[file] or not any(str(part) in texts[file] for part in path[1:]):
                continue
            harmless = states(file, word, opts)
            if harmless == normal[file] or WORD not in json.dumps(harmless, default=str):
                continue
            seen += 1
            for value in HOSTILE:
                hostile = change(value)
                if states(file, hostile, opts) != replaced(harmless, value) and not refused(hostile):
                    wrong.append(f"{file.relative_to(TOP)}: {':'.join(map(str, path))}: {value!r}")
    assert seen > 30
    assert not wrong, "\n".join(wrong)
