"""Burn-ins that overheat, compute wrong values, hang, or are interrupted: the verdict names the cause."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from vault_cube.bench import stress
from vault_cube.bench.run.hardware import Hardware
from vault_cube.errors import VaultCubeError

# prints the same lines as workloads/burn.py, without PyTorch; {each} runs in every iteration
BURN = """
import json, sys, time
turn = 0
while True:
    wrong = 0
    {each}
    print(json.dumps({{"products": 10, "tflops": 180.0, "wrong": wrong, "seconds": 0.05}}), flush=True)
    turn += 1
    time.sleep(0.05)
"""
COOL = {"temperature": {0: 70}, "throttle": 0x4, "utilisation": {"gpu": 100}, "power_mw": 570000, "clock": {1: 2400}}
HOT = {"temperature": {0: 88}, "throttle": 0x4C, "power_mw": 400000, "clock": {1: 1200}}


@pytest.fixture
def burning(gpus, bench):
    """Two fake GPUs under load."""
    gpus.every(**COOL)
    bench.workload("burn", BURN.format(each="pass"))
    return gpus


def uuid_of(fake, gpu):
    return fake.state["gpus"][gpu]["uuid"]


def samples(bench):
    return sum(1 for file in (bench.folder / "results").glob("stress-*/samples.jsonl") for _ in file.open())


def until_samples(bench, count):
    end = time.monotonic() + 30
    while samples(bench) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_verdict_names_throttle_reasons_and_their_share_of_time(bench, burning):
    process = bench.start("stress", burning.environment, duration="4s")
    until_samples(bench, 20)
    burning.every(**HOT)
    verdict = bench.answer(process)
    device = verdict["devices"]["cuda:0"]
    assert verdict["verdict"] == "fault"
    assert verdict["simulated"] is True
    assert verdict["whole"] is True
    # the GPU was hot in half of the time; the power cap was active all the time, which is allowed in a burn-in
    assert device["throttle_share"]["hw_thermal_slowdown"] == pytest.approx(0.5, abs=0.1)
    assert device["throttle_share"]["hw_slowdown"] == pytest.approx(0.5, abs=0.1)
    assert device["throttle_share"]["sw_power_cap"] == 1.0
    assert device["temperature_c"]["most"] == 88
    assert any("cuda:1: throttled by hw_thermal_slowdown for" in line for line in verdict["problems"])
    assert not any("sw_power_cap" in line for line in verdict["problems"])


def test_a_gpu_that_stays_cool_passes(bench, burning):
    verdict = bench.answer(bench.start("stress", burning.environment, duration="2s"))
    assert verdict["verdict"] == "ok", verdict["problems"]
    assert verdict["work"]["cuda:0"]["products"] > 100
    assert not (bench.folder / "results/unfinished").exists()


def test_a_burn_in_stops_at_the_pillars_temperature(bench, burning):
    process = bench.start("stress", burning.environment, duration="1h")
    until_samples(bench, 5)
    burning.every(temperature={0: 90})
    verdict = bench.answer(process)
    assert verdict["verdict"] == "fault"
    assert verdict["problems"][0] == "cuda:0: 90 deg C, the limit is 90 (pillar benchmark:stress:stop_celsius)"
    assert verdict["whole"] is False


def test_a_lost_gpu_and_new_ecc_errors_are_reported(bench, burning):
    burning.every(ecc={"volatile": {"uncorrected": 0}})
    process = bench.start("stress", burning.environment, duration="1h")
    until_samples(bench, 5)
    burning.gpu(0, ecc={"volatile": {"uncorrected": 7}})
    until_samples(bench, 10)
    burning.gpu(1, error=15)
    verdict = bench.answer(process)
    assert verdict["problems"][0] == ("cuda:1: no temperature for 1 s: GPU 1: GPU is lost: it has fallen off the bus")
    assert "cuda:0: 7 uncorrected ECC errors" in verdict["problems"]


def test_a_card_that_never_computes_is_named(bench, burning):
    # a burn-in that is shorter than silence_s ends before a hanging program is noticed
    bench.workload("burn", BURN.format(each="time.sleep(0 if os.environ['CUDA_VISIBLE_DEVICES'] == FIRST else 600)"))
    text = (bench.workloads / "burn.py").read_text().replace("FIRST", repr(uuid_of(burning, 0)))
    bench.workload("burn", "import os\n" + text)
    verdict = bench.answer(bench.start("stress", burning.environment, duration="2s"))
    assert verdict["verdict"] == "fault"
    assert "cuda:1: computed no product: it cannot be judged" in verdict["problems"]
    assert {name: card["verdict"] for name, card in verdict["cards"].items()} == {"cuda:0": "ok", "cuda:1": "fault"}


def test_one_failed_reading_does_not_end_the_burn_in(bench, burning):
    process = bench.start("stress", burning.environment, duration="4s")
    until_samples(bench, 5)
    burning.gpu(
        1, error={"nvmlDeviceGetPowerUsage": 999, "nvmlDeviceGetTemperature": 999, "nvmlDeviceGetTemperatureV": 999}
    )
    time.sleep(0.3)
    burning.gpu(1, error=None)
    verdict = bench.answer(process)
    assert verdict["whole"] is True
    # 1 % of the samples may lack the temperature; here it was missing in some of 40
    assert [line for line in verdict["problems"] if "no temperature in" not in line] == []


def test_a_corrupted_inforom_does_not_end_the_burn_in(bench, burning):
    burning.every(error={"nvmlDeviceGetTotalEccErrors": 14})
    verdict = bench.answer(bench.start("stress", burning.environment, duration="1s"))
    assert verdict["verdict"] == "ok", verdict["problems"]


@pytest.mark.parametrize("gpu", [0, 1])
def test_a_burn_in_without_a_temperature_does_not_start(bench, burning, gpu):
    burning.gpu(gpu, temperature={0: None})
    answer = bench.answer(bench.start("stress", burning.environment, duration="1h"))
    assert f"cuda:{gpu}: no temperature: NVML returns none" in answer["error"]
    assert not (bench.folder / "results/unfinished").exists()
    assert samples(bench) == 0


def test_a_card_at_a_fifth_of_its_speed_is_named(bench, burning):
    each = "pass"
    text = BURN.format(each=each).replace("180.0", "36.0 if os.environ['CUDA_VISIBLE_DEVICES'] == FIRST else 180.0")
    bench.workload("burn", "import os\n" + text.replace("FIRST", repr(uuid_of(burning, 0))))
    verdict = bench.answer(bench.start("stress", burning.environment, duration="2s"))
    assert verdict["verdict"] == "fault"
    assert "cuda:0: 36 TFLOP/s, 20% of the other cards' median, in hour 1" in verdict["problems"]
    assert verdict["cards"]["cuda:1"]["verdict"] == "ok"


def test_xids_of_the_boot_before_count(bench, burning):
    process = bench.start("stress", burning.environment, duration="3s")
    until_samples(bench, 10)
    process.kill()
    process.communicate()
    assert not bench.left()
    folder = next((bench.folder / "results").glob("stress-*"))
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"boots": ["another-boot"]}))
    root = bench.folder / "root"
    root.mkdir()
    bus = burning.state["gpus"][1]["bus_id"].lower()[4:-2]
    line = f"{time.time():.6f} box kernel: NVRM: Xid (PCI:{bus}): 79, GPU has fallen off the bus."
    old = f"{time.time() - 86400:.6f} box kernel: NVRM: Xid (PCI:{bus}): 48, of the day before"
    (root / "kernel.log.1").write_text(f"{old}\n{line}\n")
    verdict = bench.answer(bench.start("stress", burning.environment | {"BENCH_ROOT": str(root)}))
    assert verdict["verdict"] == "fault"
    assert "cuda:1: XID 79" in verdict["problems"]
    assert not any("48" in line for line in verdict["problems"])


def test_a_card_that_is_gone_after_a_reboot_is_named(bench, burning):
    process = bench.start("stress", burning.environment, duration="1h")
    until_samples(bench, 5)
    process.kill()
    process.communicate()
    assert not bench.left()
    gone = uuid_of(burning, 1)
    del burning.state["gpus"][1]
    burning.save()
    verdict = bench.answer(bench.start("stress", burning.environment))
    assert verdict["verdict"] == "fault"
    assert verdict["problems"][0] == f"cuda:1 ({gone}): no longer there; the burn-in began with it"


def test_a_wrong_value_is_reported(bench):
    bench.workload("burn", BURN.format(each="wrong = 3 if turn == 7 else 0"))
    verdict = bench.answer(bench.start("stress", duration="2s"))
    assert verdict["verdict"] == "fault"
    assert verdict["work"]["cpu"]["wrong"] == 3
    assert "cpu: 3 wrong values" in verdict["problems"][0]


AT_ITS_END = """
import signal
def last(*_):
    print(json.dumps({"products": 1, "wrong": 2, "seconds": 0.01}), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, last)
"""


def test_a_wrong_value_detected_only_at_the_end_is_reported(bench):
    imports, rest = BURN.format(each="pass").split("turn = 0", 1)
    bench.workload("burn", f"{imports}{AT_ITS_END}turn = 0{rest}")
    verdict = bench.answer(bench.start("stress", duration="1s"))
    assert verdict["verdict"] == "fault"
    assert "cpu: 2 wrong values" in verdict["problems"][0]
    # the last line has no rate, because its interval is too short to measure one
    assert verdict["devices"]["cpu"]["tflops"]["least"] == 180.0


def test_a_burn_in_without_a_product_is_a_fault(bench):
    bench.workload("burn", "import time; time.sleep(600)")
    verdict = bench.answer(bench.start("stress", duration="1s"))
    assert verdict["verdict"] == "fault"
    assert (
        verdict["problems"] == ["cpu: computed no product: it cannot be judged"]
        or "no matrix product" in verdict["problems"][0]
    )


def test_a_burn_program_that_hangs(bench):
    bench.pillar["benchmark"]["stress"]["silence_s"] = 3.0
    bench.workload("burn", BURN.format(each="time.sleep(600 if turn == 3 else 0)"))
    verdict = bench.answer(bench.start("stress", duration="1h"))
    assert "no output of the burn program for 3 s; it hangs" in verdict["problems"][0]


def test_a_burn_program_that_exits(bench):
    bench.workload("burn", BURN.format(each="turn == 3 and sys.exit('cannot go on')"))
    verdict = bench.answer(bench.start("stress", duration="1h"))
    assert verdict["problems"][0] == "cpu: the burn program exited with status 1: cannot go on"


def test_a_burn_in_continues_after_a_reboot(bench):
    bench.workload("burn", BURN.format(each="pass"))
    process = bench.start("stress", duration="4s")
    until_samples(bench, 15)
    process.kill()
    process.communicate()
    assert not bench.left()
    folder = next((bench.folder / "results").glob("stress-*"))
    # a power cut truncates the last line, and a reboot changes the boot ID
    with (folder / "samples.jsonl").open("a") as out:
        out.write('{"at": 1.7, "devi')
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"boots": ["another-boot"]}))
    verdict = bench.answer(bench.start("stress"))
    assert verdict["verdict"] == "ok", verdict["problems"]
    assert verdict["boots"] == 2
    assert verdict["whole"] is True
    times = [sample["at"] for sample in stress.samples(folder)]
    assert times == sorted(times)
    # the second run continues where the first one ended
    assert len(times) == pytest.approx(40, abs=4)


def test_an_interrupted_burn_in_can_be_abandoned(bench):
    bench.workload("burn", BURN.format(each="pass"))
    process = bench.start("stress", duration="1h")
    until_samples(bench, 5)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in bench.answer(process)["error"]
    with pytest.raises(VaultCubeError, match="unfinished"):
        stress.start(bench.settings, "60s")
    verdict = stress.abandon(bench.settings)
    assert verdict["problems"] == ["abandoned by the user"]
    assert verdict["work"]["cpu"]["products"] > 0
    with pytest.raises(VaultCubeError, match="there is no unfinished burn-in"):
        stress.go_on(bench.settings, Hardware(), print)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("60s", 60), ("5m", 300), ("24h", 86400), ("1.5d", 129600)])
def test_durations_are_converted_to_seconds(text, seconds):
    assert stress.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "1w", "-5s", "soon"])
def test_invalid_durations_are_refused(text):
    with pytest.raises(VaultCubeError, match="not a duration"):
        stress.seconds_of(text)


# a Python with PyTorch: from VAULT_CUBE_TORCH, or in the image's tree that of the pytorch environment
TORCH = next(
    (
        path
        for path in (os.environ.get("VAULT_CUBE_TORCH", ""), "/opt/vault-cube/envs/pytorch/bin/python")
        if Path(path).is_file()
    ),
    None,
)
PLANT = """
import sys
sys.path.insert(0, {workloads!r})
import burn
honest, turns = burn.multiply, []
def multiply(torch, a, b, out):
    honest(torch, a, b, out)
    turns.append(1)
    if len(turns) == {turn}:
        out[0, 5] += 0.1
burn.multiply = multiply
sys.argv = ["burn", "--memory", "0.0005"]
burn.main()
"""


@pytest.mark.skipif(not TORCH, reason="needs PyTorch: VAULT_CUBE_TORCH=…/bin/python")
@pytest.mark.parametrize(
    ("turn", "line_part"), [(30, '"wrong": 1,'), (1, "the first product is off"), (0, '"wrong": 0,')]
)
def test_the_real_burn_detects_one_wrong_value_among_a_million(bench, turn, line_part):
    workloads = str(Path(__file__).resolve().parents[3] / "workloads")
    script = bench.folder / "plant.py"
    script.write_text(PLANT.format(workloads=workloads, turn=turn))
    process = subprocess.Popen([TORCH, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        lines, end = [], time.monotonic() + 60
        for line in process.stdout:
            lines.append(line)
            if (line_part in line and "products" in line) or "error" in line or time.monotonic() > end:
                break
    finally:
        process.kill()
        process.communicate()
    assert line_part in lines[-1], lines
    if not turn:
        assert not any('"wrong": 1' in line for line in lines)
