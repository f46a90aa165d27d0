"""Values of the seed in the pillar of a box: they override its files, and only on a box."""

import importlib.util
import json

import pytest
from copied import TOP


@pytest.fixture
def seed(tmp_path):
    """seed(text) returns what _pillar/vault_cube.py takes from a record with this text."""
    spec = importlib.util.spec_from_file_location("seed_pillar", TOP / "_pillar/vault_cube.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def read(text, setting=True):
        (tmp_path / "seed.json").write_text(text)
        module.__opts__ = {"vault_cube": {"seed": str(tmp_path / "seed.json")} if setting else {}}
        return module._seed()

    return read


@pytest.mark.parametrize(
    ("record", "values"),
    [
        ({}, {}),
        ({"hostname": "box-7"}, {"hostname": "box-7"}),
        ({"timezone": "Europe/Berlin", "hostname": "box-7"}, {"hostname": "box-7", "timezone": "Europe/Berlin"}),
        ({"users": {}}, {}),
    ],
)
def test_the_record_becomes_values_of_the_pillar(seed, record, values):
    assert seed(json.dumps(record)) == ({"base": values} if values else {})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_a_damaged_record_is_no_seed(seed, text):
    assert seed(text) == {}


def test_a_builder_has_no_seed(seed):
    assert seed('{"hostname": "box-7"}', setting=False) == {}
