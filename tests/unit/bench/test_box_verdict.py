"""The verdict on a whole simulated box: a healthy one is ok, a slow card is a fault that names card and number."""

import pytest

from tests.unit.bench.conftest import REACHED, RTX_5090, a_result, simulated_box
from vault_cube.bench.judge import cards
from vault_cube.bench.judge.result import Check

CARDS = [
    "NVIDIA GeForce RTX 5090",
    "NVIDIA GeForce RTX 4090",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "NVIDIA L40S",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA A100 80GB PCIe",
    "NVIDIA H100 PCIe",
    "NVIDIA H100 80GB HBM3",
    "NVIDIA H100 NVL",
    "NVIDIA H200",
    "NVIDIA B200",
]
KINDS = list(REACHED)
# the checks that have to notice each kind
CHECKS = {
    "matmul": "matmul",
    "memory": "memory",
    "pcie": "host to device, alone",
    "training": "training, ddp transformer",
    "tokens": "roofline",
}


def judged(settings, slow=lambda kind, gpu: 1.0, **more):
    names = more.get("names", (RTX_5090,) * 4)
    return a_result(settings, simulated_box(settings, slow, **more), names=names)


def bad(result):
    return {(verdict.check, verdict.gpu): verdict for verdict in result.verdicts if verdict.bad}


def test_a_healthy_box_is_ok(gpu_settings):
    result = judged(gpu_settings)
    assert bad(result) == {}
    assert result.verdict == "ok"


@pytest.mark.parametrize("name", CARDS)
def test_a_healthy_box_of_each_published_card_is_ok(gpu_settings, name):
    suites = simulated_box(gpu_settings, names=(name,) * 4, figures=name)
    if cards.ceiling(gpu_settings.benchmark.ceilings, name).nvlink_gb_s:
        del suites["all_reduce"]
    result = a_result(gpu_settings, suites, names=(name,) * 4)
    assert bad(result) == {}
    assert result.verdict == "ok"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 5090", "NVIDIA H200", "NVIDIA L40S"])
def test_four_cards_at_a_third_of_their_speed_are_a_fault(gpu_settings, kind, name):
    def slow(measured, gpu):
        return 1 / 3 if measured == kind else 1.0

    result = judged(gpu_settings, slow, names=(name,) * 4, figures=name)
    assert result.verdict == "fault"
    for gpu in range(4):
        verdict = bad(result)[CHECKS[kind], gpu]
        assert verdict.status == "fault"
        assert f", {REACHED[kind] / 3:.0%}" in verdict.evidence
        assert "benchmark:thresholds:nvidia:" in verdict.threshold


@pytest.mark.parametrize("kind", KINDS)
def test_four_cards_at_40_percent_are_a_fault(gpu_settings, kind):
    result = judged(gpu_settings, lambda measured, _: 0.4 if measured == kind else 1.0)
    assert bad(result)[CHECKS[kind], 0].status == "fault"


def test_a_link_with_half_its_lanes_is_a_fault(gpu_settings):
    result = judged(gpu_settings, lambda measured, _: 0.5 if measured == "pcie" else 1.0)
    assert {check for check, _ in bad(result)} >= {"host to device, alone", "device to host, alone"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slow_gpu", [0, 2, 3])
def test_one_of_four_cards_at_a_fifth_is_a_fault_of_this_card(gpu_settings, kind, slow_gpu):
    def slow(measured, gpu):
        return 1 / 5 if (measured, gpu) == (kind, slow_gpu) else 1.0

    result = judged(gpu_settings, slow)
    assert result.verdict == "fault"
    assert bad(result)[CHECKS[kind], slow_gpu].status == "fault"
    among = [
        verdict for (check, gpu), verdict in bad(result).items() if check.startswith("siblings") and gpu == slow_gpu
    ]
    assert among
    assert all("20% of the other cards' median" in verdict.evidence for verdict in among)
    # no other card is blamed
    assert {gpu for _, gpu in bad(result)} <= {slow_gpu, None}


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_a_card_slightly_below_its_siblings_is_noticed_without_any_figure(gpu_settings, share):
    names = ("NVIDIA GeForce RTX 6090",) * 4
    result = judged(gpu_settings, lambda kind, gpu: share if gpu == 1 else 1.0, names=names)
    faults = {gpu for (check, gpu), verdict in bad(result).items() if verdict.status == "fault" and "siblings" in check}
    assert faults == {1}


@pytest.mark.parametrize("count", [1, 4])
def test_an_unknown_card_says_so_and_is_not_ok(gpu_settings, count):
    names = ("NVIDIA GeForce RTX 6090",) * count
    result = judged(gpu_settings, names=names)
    assert result.verdict == "uncertain"
    for check in ("matmul", "memory", "roofline", "training, ddp transformer"):
        evidence = bad(result)[check, 0].evidence
        assert "not judged: no published figure for NVIDIA GeForce RTX 6090" in evidence
    assert "benchmark:ceilings" in bad(result)["matmul", 0].todo


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 5090 Laptop GPU",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "NVIDIA H200 NVL",
        "NVIDIA GH200 480GB",
        "NVIDIA H100",
        "NVIDIA H100 80GB HBM2e",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GB200",
        "H200",
        "",
    ],
)
def test_a_variant_does_not_take_the_figures_of_another_card(settings, name):
    assert cards.ceiling(settings.benchmark.ceilings, name) is None


def test_each_form_of_the_h100_has_its_own_figures(settings):
    figures = {
        name: cards.ceiling(settings.benchmark.ceilings, f"NVIDIA H100 {name}") for name in ("PCIe", "80GB HBM3", "NVL")
    }
    assert {name: (each.bfloat16_tflops, each.memory_gb_s) for name, each in figures.items()} == {
        "PCIe": (756.5, 2000),
        "80GB HBM3": (989.5, 3350),
        "NVL": (835.5, 3900),
    }


def test_every_figure_has_a_source_and_no_card_is_listed_twice(settings):
    names = [name for ceiling in settings.benchmark.ceilings for name in ceiling.devices]
    assert len(names) == len(set(names))
    assert all("NVIDIA" in ceiling.source for ceiling in settings.benchmark.ceilings)


def test_a_slot_with_fewer_lanes_is_judged_by_what_the_pillar_expects(gpu_settings):
    ceiling = cards.ceiling(gpu_settings.benchmark.ceilings, RTX_5090)
    gates = gpu_settings.driver.gates
    assert cards.link_gb_s(ceiling, gates) == pytest.approx(63.0, abs=0.1)
    narrow = gates.model_copy(update={"pcie_generation": 4, "pcie_width": 8})
    assert cards.link_gb_s(ceiling, narrow) == pytest.approx(15.75, abs=0.01)
    unset = gates.model_copy(update={"pcie_generation": 0, "pcie_width": 0})
    assert cards.link_gb_s(ceiling, unset) == pytest.approx(63.0, abs=0.1)


@pytest.mark.parametrize("suite", ["matmul", "copies", "ddp", "vllm"])
def test_a_card_that_was_not_measured_is_a_fault(gpu_settings, suite):
    suites = simulated_box(gpu_settings)
    rest = [metric for metric in suites[suite].metrics if metric.device != "cuda:2"]
    suites[suite] = suites[suite].model_copy(update={"metrics": rest})
    result = a_result(gpu_settings, suites)
    missing = [verdict for verdict in result.verdicts if verdict.gpu == 2 and "not measured" in verdict.evidence]
    assert missing
    assert result.verdict == "fault"


@pytest.mark.parametrize(("device", "peer"), [("cuda:0", "cuda:3"), ("cuda:1", None), (None, None)])
def test_wrong_data_at_full_speed_is_a_fault(gpu_settings, device, peer):
    suites = simulated_box(gpu_settings)
    broken = Check(quantity="device to device", device=device, peer=peer, compared=1 << 30, wrong=7)
    suites["copies"] = suites["copies"].model_copy(update={"checks": [broken]})
    result = a_result(gpu_settings, suites)
    evidence = bad(result)["data", None].evidence
    assert "7 of 1073741824 values are wrong" in evidence
    assert (device or "") in evidence
    assert result.verdict == "fault"


@pytest.mark.parametrize(("share", "status"), [(0.4, "ok"), (0.1, "fault")])
def test_all_reduce_over_pcie(gpu_settings, share, status):
    suites = simulated_box(gpu_settings)
    (reduced,) = suites["all_reduce"].metrics
    scaled = reduced.model_copy(
        update={name: getattr(reduced, name) * share / 0.4 for name in ("median", "low", "high")}
        | {"samples": [sample * share / 0.4 for sample in reduced.samples]}
    )
    suites["all_reduce"] = suites["all_reduce"].model_copy(update={"metrics": [scaled]})
    verdicts = {verdict.check: verdict for verdict in a_result(gpu_settings, suites).verdicts}
    assert verdicts["all reduce"].status == status
    assert "GB/s of PCIe" in verdicts["all reduce"].evidence


def test_all_reduce_over_nvlink_is_compared_with_nvlink(gpu_settings):
    # 40 % of PCIe would be enough without NVLink
    result = judged(gpu_settings, names=("NVIDIA H200",) * 4, figures="NVIDIA H200")
    verdict = bad(result)["all reduce", None]
    assert verdict.status == "fault"
    assert "of 450 GB/s of NVLink" in verdict.evidence


def test_mixed_cards_are_judged_by_their_own_figures_and_siblings(gpu_settings):
    names = (RTX_5090, RTX_5090, "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090")
    suites = simulated_box(gpu_settings, lambda kind, gpu: 0.7 if gpu > 1 else 1.0, names=names)
    verdicts = [verdict for verdict in a_result(gpu_settings, suites, names=names).verdicts if verdict.bad]
    # 0.7 of a 5090's product is 75 % of a 4090's peak
    assert not [verdict for verdict in verdicts if verdict.check == "matmul" or "siblings: matmul" in verdict.check]
