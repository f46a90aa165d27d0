"""What gpu.benchmark, gpu.stress and gpu.report return: a text for a person, a document for a program, an exit code."""

import json
from pathlib import Path

import pytest

from tests.unit.bench.conftest import a_result, simulated_box
from tests.unit.bench.test_burn_verdict import CARD, day
from vault_cube.bench import verbs
from vault_cube.bench.judge.summary import summary
from vault_cube.errors import VaultCubeError


@pytest.mark.parametrize(("speed", "exit_code"), [(1.0, 0), (0.2, 2)])
def test_a_benchmark_shows_its_verdicts(gpu_settings, speed, exit_code):
    suites = simulated_box(gpu_settings, lambda kind, gpu: speed if (kind, gpu) == ("matmul", 2) else 1.0)
    measured = a_result(gpu_settings, suites)
    answer = verbs.shown(measured, Path("/results/x.json"))
    assert answer.exit_code == exit_code
    assert answer.document == summary(measured, Path("/results/x.json"))
    text = answer.text()
    assert "4 x NVIDIA GeForce RTX 5090" in text
    assert "simulated: true" in text
    assert text.endswith("/results/x.json")
    if exit_code:
        assert answer.document["bad"][0]["gpu"] == 2
        # 0.85 x 0.2 of 209.5
        assert "35.63 of 209.5 TFLOP/s, 17%" in text.partition("GPU 2")[2]


@pytest.fixture
def burnt(settings, tmp_path):
    """A burn-in that was interrupted after two hours, in a results folder."""

    def burn(cards=2, **changes):
        benchmark = settings.benchmark.model_copy(update={"results": str(tmp_path)})
        folder = tmp_path / "stress-x"
        folder.mkdir()
        devices = {f"cuda:{gpu}": CARD for gpu in range(cards)}
        plan = {
            "name": "stress-x",
            "seconds": 7200,
            "started": "2026-11-29T10:00:00Z",
            "boots": ["a"],
            "devices": devices,
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        lines = [json.dumps(sample) for sample in day(cards, hours=2, **changes)]
        (folder / "samples.jsonl").write_text("\n".join(lines))
        (tmp_path / "unfinished").write_text("stress-x\n")
        return settings.model_copy(update={"benchmark": benchmark})

    return burn


def test_an_abandoned_burn_in_shows_the_hours_with_a_fault(burnt):
    settings = burnt(tflops=lambda hour, gpu: 60.0 if gpu == 1 and hour >= 1 else 180.0)
    answer = verbs.stress(settings, None, resume=False, abandon=True, background=None)
    assert answer.exit_code == 2
    assert answer.document["cards"]["cuda:0"]["hours"] == []
    (hour,) = answer.document["cards"]["cuda:1"]["hours"]
    assert (hour["hour"], hour["tflops"]) == (2, 60.0)
    assert "curve" not in answer.document["devices"]["cuda:1"]["tflops"]
    assert "60 TFLOP/s, 33% of the other cards' median" in answer.text()


def test_the_report_of_a_burn_in_is_written(burnt, tmp_path):
    settings = burnt()
    verbs.stress(settings, None, resume=False, abandon=True, background=None)
    answer = verbs.report(settings, "last", "last", folder=str(tmp_path / "out"))
    assert answer.exit_code == 0
    text = Path(answer.document["md"]).read_text()
    assert "| cuda:1 | 2 | ok |" in text
    assert "abandoned by the user" in Path(answer.document["html"]).read_text()


def test_a_burn_in_needs_a_duration(settings):
    with pytest.raises(VaultCubeError, match="a duration is required"):
        verbs.stress(settings, None, resume=False, abandon=False, background=None)
