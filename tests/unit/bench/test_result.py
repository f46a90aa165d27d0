"""The schema of a result, the results folder, the report."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests.unit.bench.conftest import a_result, metric, suite
from vault_cube.bench.judge import result
from vault_cube.bench.judge.summary import summary
from vault_cube.bench.report import pages
from vault_cube.bench.store import Store
from vault_cube.errors import VaultCubeError


@pytest.fixture
def finished(settings):
    samples = (0.9, 0.91, 0.92, 0.9, 0.93)
    quantities = (
        "efficiency", "efficiency shared", "efficiency communication", "efficiency strong",
        "training weak", "training strong",
    )  # fmt: skip
    metrics = [metric(*samples, quantity=quantity, subject="transformer") for quantity in quantities]
    metrics += [
        metric(*samples, quantity="training alone", subject="transformer", device=f"cuda:{gpu}", phase="alone")
        for gpu in range(4)
    ]
    readings = {"alone": {"cuda:2": {"power_w": {"mean": 571.4}, "clock_mhz": {"mean": 2407.0}, "readings": 9}}}
    trained = suite(metrics, sensors=readings, devices=4, models={"transformer": {"flop_per_sample": 1.0}})
    return a_result(settings, {"ddp": trained, "vllm": suite(status="failed")})


def test_a_result_is_read_back_unchanged(finished, tmp_path):
    store = Store(tmp_path)
    assert result.load(store.write(finished.name, finished.model_dump(mode="json"))) == finished
    assert store.names() == ["benchmark-a"]
    assert store.find("last").name == "benchmark-a.json"


@pytest.mark.parametrize(
    "fields",
    [
        {"index": 0, "power_limit_w": 575},
        {"index": 0, "power_limit_w": 575.0},
        {"name": "without an index"},
        {"index": 0, "a_later_field": [1, {"b": 2.5}]},
    ],
)
def test_the_fields_of_a_gpu_are_written_as_they_were_read(finished, fields):
    document = finished.model_dump(mode="json")
    document["machine"]["gpus"] = [fields]
    text = json.dumps(document)
    assert json.dumps(result.Result.model_validate_json(text).model_dump(mode="json")) == text


@pytest.mark.parametrize(
    "readings",
    [
        {"readings": 2, "temperature_c": {"mean": 55.5, "least": 55, "most": 56, "variation": 0.01}},
        {"readings": 1, "throttle": {"sw_power_cap": 1}},
        {"readings": 1, "throttle": {}, "a_later_sensor": {"mean": 1}},
        {"power_w": {"mean": 300.0, "a_later_statistic": 7}},
    ],
)
def test_the_readings_of_a_sensor_are_written_as_they_were_read(finished, readings):
    document = finished.model_dump(mode="json")
    document["suites"]["ddp"]["sensors"] = {"steady": {"cuda:0": readings}}
    text = json.dumps(document)
    assert json.dumps(result.Result.model_validate_json(text).model_dump(mode="json")) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [("power_limit_w", "much"), ("memory_mib", 1.5), ("name", None)],
)
def test_a_result_with_a_gpu_field_of_another_type_is_refused(finished, tmp_path, key, value):
    document = finished.model_dump(mode="json")
    document["machine"]["gpus"] = [{"index": 0, key: value}]
    file = tmp_path / "benchmark-a.json"
    file.write_text(json.dumps(document))
    with pytest.raises(VaultCubeError, match=rf"benchmark-a.json: not a benchmark result of schema 2: .*gpus:0:{key}"):
        result.load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema_version": 1}, "schema_version"), ({"surprise": 1}, "surprise"), ({"verdict": "splendid"}, "verdict")],
)
def test_a_result_of_another_schema_is_refused_in_one_line(finished, tmp_path, change, message):
    file = tmp_path / "benchmark-x.json"
    file.write_text(json.dumps(finished.model_dump(mode="json") | change))
    with pytest.raises(VaultCubeError, match=message) as caught:
        result.load(file)
    assert "\n" not in str(caught.value)


def test_a_missing_result_is_refused(tmp_path):
    for name in ("last", "previous", "benchmark-y", "/no/such/file.json"):
        with pytest.raises(VaultCubeError):
            result.load(Store(tmp_path).find(name))


def test_unmeasured_suites_are_absent_from_the_summary(finished, tmp_path):
    shown = summary(finished, tmp_path / "x.json")
    assert shown["numbers"]["ddp: efficiency transformer"]["median"] == 0.91
    assert shown["suites"] == {"ddp": "measured", "vllm": "failed"}
    assert not [key for key in shown["numbers"] if key.startswith("vllm")]
    assert {"check": "vllm", "status": "fault", "evidence": "hang: it broke"} in shown["bad"]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.words, self.references = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.references += [
            value for key, value in attrs if key in ("src", "href") and not (value or "").startswith("#")
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


BURN = {
    "name": "stress-x",
    "verdict": "fault",
    "asked_s": 86400.0,
    "burnt_s": 80000.0,
    "whole": False,
    "boots": 2,
    "simulated": True,
    "problems": ["cuda:0: throttled by hw_thermal_slowdown for 12.0% of the time; at most 0.0% is allowed"],
    "work": {"cuda:0": {"products": 5, "wrong": 1}},
    "cards": {
        "cuda:0": {
            "verdict": "fault",
            "problems": [],
            "hours": [{"hour": 1, "verdict": "ok", "problems": [], "products": 5, "wrong": 1, "tflops": 187.5}],
        }
    },
    "devices": {
        "cuda:0": {
            "samples": 2,
            "throttle_share": {"hw_thermal_slowdown": 0.12},
            "xids": [],
            "temperature_c": {"curve": [[0, 50], [80000, 88]]},
        }
    },
}


def test_the_page_is_self_contained_and_lists_what_is_missing(finished, settings):
    page, text = pages.make(finished, BURN, settings.benchmark)
    parsed = Page()
    parsed.feed(page)
    parsed.close()
    assert not parsed.open
    assert parsed.references == []
    assert not re.search(r"url\(|@import|<script", page)
    shown = " ".join(parsed.words)
    # 6,400 s of 86,400 are missing
    for wanted in (
        "0.91",
        "0.9 \u2013 0.93",
        "it broke",
        "throttled by hw_thermal_slowdown for 12.0%",
        "571 W, 2407 MHz",
        "187.5",
        "(simulated)",
        "burn-in: the last 107 min",
    ):
        assert wanted in shown
        assert wanted in text
    assert page.count("<svg") == 3


def headings(page):
    return re.findall(r"<h2>([^<]*)</h2>", page)


def test_the_report_has_all_sections(finished, settings):
    page, text = pages.make(finished, BURN, settings.benchmark)
    wanted = ["Verdict", "Machine", "Training: DDP", "Inference: vLLM", "Burn-in", "Not measured"]
    assert headings(page) == wanted
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == wanted
    titles = re.findall(r'class="title plot_title">([^<]*)<', page)
    assert titles == ["Efficiency of scaling (threshold 0.8)", "Scaling", "Temperature"]
    assert 'class="verdict fault"' in page


def test_a_report_of_a_burn_in_alone_shows_the_machine(finished, settings):
    page, _ = pages.make(None, BURN | {"machine": finished.machine.model_dump(mode="json")}, settings.benchmark)
    assert headings(page) == ["Verdict", "Machine", "Burn-in", "Not measured"]
    assert "a processor, 2 cores" in page
    assert "there is no result" in page


def test_four_devices_share_one_plot_with_one_colour_each(gpu_settings):
    products = [
        metric(*[9.0] * 5, quantity="matmul", subject=precision, device=f"cuda:{gpu}")
        for precision in ("tf32", "float8")
        for gpu in range(4)
    ]
    pairs = [
        metric(*[9.0] * 5, quantity="device to device", subject="one way", device=f"cuda:{gpu}", peer=f"cuda:{3 - gpu}")
        for gpu in range(4)
    ]
    suites = {"matmul": suite(products, devices=4), "copies": suite(pairs, devices=4)}
    page, _ = pages.make(a_result(gpu_settings, suites), None, gpu_settings.benchmark)
    assert page.count("<svg") == 1
    assert [f"cuda:{gpu}" for gpu in range(4)] == re.findall(r">(cuda:\d)<", page)
    assert "device to device one way cuda:0 to cuda:3" in page


def test_the_report_is_reproducible(finished, settings):
    assert pages.make(finished, BURN, settings.benchmark) == pages.make(finished, BURN, settings.benchmark)


def test_device_names_are_escaped(finished, settings):
    gpus = [{"index": 0, "name": "<script>alert(1)</script>|"}]
    hostile = finished.model_copy(update={"machine": finished.machine.model_copy(update={"gpus": gpus})})
    page, text = pages.make(hostile, None, settings.benchmark)
    assert "<script" not in page
    assert "</script>\\|" in text
    assert "there is no finished burn-in" in page
