"""The grain `gpu_benchmark` never raises, whatever its file contains."""

import importlib.util
import json
import time
from pathlib import Path

import pytest

GRAIN = Path(__file__).resolve().parents[3] / "_grains/gpu_benchmark.py"


@pytest.fixture
def grain(tmp_path):
    spec = importlib.util.spec_from_file_location("gpu_benchmark_grain", GRAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"cachedir": str(tmp_path)}
    return module.gpu_benchmark


def test_without_a_result_there_is_no_grain(grain):
    assert grain() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"started": "yesterday"}', '{"started": 7}', "\x00\xff"])
def test_a_broken_file_gives_no_grain(grain, tmp_path, text):
    (tmp_path / "gpu_benchmark.json").write_text(text)
    assert grain() == {}


def test_the_grain_shows_the_result_and_its_age(grain, tmp_path):
    start_s = int(time.time()) - 3600
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_s))
    (tmp_path / "gpu_benchmark.json").write_text(json.dumps({"started": started, "verdict": "ok"}))
    summary = grain()["gpu_benchmark"]
    assert summary["verdict"] == "ok"
    assert 3600 <= summary["age_s"] <= time.time() - start_s + 1
