"""Every field of a reading is declared in vault_cube/gpu/fields.py, with a value of the declared type."""

from types import UnionType
from typing import Required, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from vault_cube.gpu import fields
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.detail import details
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.topology import topology
from vault_cube.gpu.show import monitor


def mismatches(value, declared, path):
    """List the parts of a value that differ from their declared type."""
    origin = get_origin(declared)
    if is_typeddict(declared):
        hints = get_type_hints(declared)
        extras = get_type_hints(declared, include_extras=True)
        required = {name for name, hint in extras.items() if get_origin(hint) is Required or declared.__total__}
        missing = [f"{path} lacks {name}" for name in required - set(value)]
        unknown = [f"{path}.{name} is not declared" for name in set(value) - set(hints)]
        known = [(value[name], hints[name], f"{path}.{name}") for name in set(value) & set(hints)]
        return [*missing, *unknown, *(line for part in known for line in mismatches(*part))]
    if origin is list:
        return [line for entry in value for line in mismatches(entry, get_args(declared)[0], path)]
    if origin is dict:
        return [
            line for name, part in value.items() for line in mismatches(part, get_args(declared)[1], f"{path}.{name}")
        ]
    if origin in (Union, UnionType):
        return [] if isinstance(value, get_args(declared)) else [f"{path} is {value!r}, not {declared}"]
    numbers = (int, float) if declared is float else declared
    return [] if isinstance(value, numbers) else [f"{path} is {value!r}, not {declared}"]


@pytest.mark.parametrize("profile", ["4x5090", "h200", "8 mixed", "2x H100 NVL"])
def test_every_field_is_declared(nvml, profile):
    nvml.profile(profile)
    nvml.gpu(0, compute_process={0: f"4711 {1 << 30}"})
    nvml.gpu(len(nvml.state["gpus"]) - 1, error=15 if len(nvml.state["gpus"]) > 1 else None)
    with Session() as session:
        grain = facts(session)
        assert mismatches(grain, fields.Facts, "facts") == []
        for cards in (readings(session), readings(session, full=False), details(session)):
            assert mismatches(cards, list[fields.Card], "card") == []
        assert mismatches(topology(session), fields.Topology, "topology") == []
        assert mismatches(monitor.look(session, grain), fields.View, "view") == []


def test_a_wrong_field_is_reported():
    card = {"index": "0", "surprise": 1, "pcie": {"width": 16, "lanes": 16}}
    assert sorted(mismatches(card, fields.Card, "card")) == [
        "card.index is '0', not <class 'int'>", "card.pcie.lanes is not declared", "card.surprise is not declared",
    ]  # fmt: skip
    assert mismatches({}, fields.Card, "card") == ["card lacks index"]
