"""A fixture that loads state modules as Salt would."""

import importlib.util

import pytest
from copied import TOP


@pytest.fixture
def load_state():
    """load_state("uv") returns a state module with __opts__, as Salt's loader would."""

    def load(name, test=False):
        spec = importlib.util.spec_from_file_location(f"state_{name}", TOP / "_states" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.__opts__ = {"test": test}
        return module

    return load
