"""Build results with given samples, to judge and compare them."""

import pytest
from copied import pillar_of

from vault_cube.bench.judge import criteria, result
from vault_cube.bench.judge.result import Machine, Result, Suite
from vault_cube.settings import check


@pytest.fixture(scope="session")
def settings():
    return check(pillar_of("debian-12"))


def metric(*samples, unit="ratio", better="higher"):
    return result.metric({"unit": unit, "better": better, "samples": list(samples)}, 0.1)


def suite(metrics=None, device="NVIDIA GeForce RTX 5090", status="measured", sensors=None, **workload):
    return Suite(
        status=status,
        reason=None if status == "measured" else "it broke",
        kind=None if status == "measured" else "hang",
        seconds=1.0,
        command=[],
        device=device,
        workload=workload,
        versions={"torch": "2"},
        metrics=metrics or {},
        sensors=sensors or {},
    )


def machine(accelerator="nvidia"):
    gpus = [{"index": n, "name": "NVIDIA GeForce RTX 5090"} for n in range(4)] if accelerator == "nvidia" else []
    return Machine(
        accelerator=accelerator,
        simulated=False,
        processor="a processor",
        cores=2,
        memory_gib=1,
        kernel="6",
        system="a system",
        image=None,
        driver=None,
        gpus=gpus,
        load=[0, 0, 0],
    )


def a_result(settings, suites, name="benchmark-a", accelerator="nvidia"):
    derived = criteria.derived(suites, settings.benchmark)
    verdicts = criteria.verdicts(suites, derived, machine(accelerator), accelerator, settings.benchmark)
    return Result(
        schema_version=1,
        name=name,
        started="2026-11-24T10:00:00Z",
        seconds=1,
        quick=True,
        forced=False,
        machine=machine(accelerator),
        suites=suites,
        derived=derived,
        verdicts=verdicts,
        verdict=result.worst([verdict.said for verdict in verdicts]),
        notes=[],
    )
