"""A fixture that loads state modules as Salt would."""

import importlib.util

import pytest
from copied import TOP


@pytest.fixture
def load_state(tmp_path):
    """load_state("uv") returns a state module with the variables that Salt's loader adds, as at the start of a run."""

    def load(name, test=False):
        spec = importlib.util.spec_from_file_location(f"state_{name}", TOP / "_states" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.__opts__ = {"test": test, "cachedir": str(tmp_path / "cache")}
        module.__context__, module.__running__, module.__lowstate__ = {}, {}, []
        return module

    return load
