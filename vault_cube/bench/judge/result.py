"""Schema of a benchmark result, version 1. A value that was not measured is absent or null, never 0."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vault_cube.bench.judge.interval import median_interval, variation
from vault_cube.errors import VaultCubeError
from vault_cube.settings.benchmark import LEAST

VERSION = 1

Outcome = Literal["pass", "fail", "uncertain", "not judged", "fault"]
WORST: tuple[Outcome, ...] = ("not judged", "pass", "uncertain", "fail", "fault")
Status = Literal["measured", "failed", "interrupted", "not measured"]


class Part(BaseModel):
    """Base of all parts of a result. Unknown keys are errors: a new key needs a new schema version."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Part):
    """A measured or derived quantity with its raw samples."""

    unit: str
    better: Literal["higher", "lower"]
    samples: list[float] = Field(min_length=1)
    median: float
    low: float | None = Field(description="lower end of the 95 % interval of the median; null below 5 samples")
    high: float | None
    variation: float = Field(description="coefficient of variation of the samples")
    noisy: bool


class Verdict(Part):
    """The verdict on one threshold of the pillar."""

    name: str
    said: Outcome
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    why: str


class Suite(Part):
    """The outcome of one workload."""

    status: Status
    reason: str | None = Field(description="reason for missing metrics, one line")
    kind: str | None = Field(
        description="out of memory, gpu lost, hang, killed, missing, interrupted, refused or error"
    )
    seconds: float
    command: list[str]
    device: str | None
    workload: dict[str, Any]
    versions: dict[str, str | None]
    metrics: dict[str, Metric]
    sensors: dict[str, Any] = Field(description="sensor readings of the steady phase, by device")


class Machine(Part):
    """The measured machine."""

    accelerator: Literal["cpu", "nvidia"]
    simulated: bool = Field(description="true if the GPUs came from the fake NVML of the tests")
    processor: str
    cores: int
    memory_gib: float
    kernel: str
    system: str
    image: dict[str, Any] | None
    driver: str | None
    gpus: list[dict[str, Any]]
    load: list[float] = Field(description="load averages at the start: 1, 5, 15 minutes")


class Result(Part):
    """One run of `gpu.benchmark`."""

    schema_version: Literal[1]
    name: str
    started: str = Field(description="UTC, ISO 8601")
    seconds: float
    quick: bool
    forced: bool
    machine: Machine
    suites: dict[str, Suite]
    derived: dict[str, Metric | None] = Field(description="metrics derived from several suites: MFU, roofline")
    verdicts: list[Verdict]
    verdict: Outcome
    notes: list[str]


def metric(measured: Mapping[str, Any], spread: float) -> Metric:
    """Return a metric with its statistics.

    measured: `unit`, `better` and `samples`, as a workload prints them. spread: the coefficient of variation above
    which the metric is marked noisy.
    """
    samples = [float(value) for value in measured["samples"]]
    low, high = median_interval(samples) if len(samples) >= LEAST else (None, None)
    varied = variation(samples)
    return Metric(
        unit=measured["unit"],
        better=measured["better"],
        samples=samples,
        median=statistics.median(samples),
        low=low,
        high=high,
        variation=varied,
        noisy=varied > spread,
    )


def pooled(rounds: Sequence[Suite], sensors: dict[str, Any], spread: float) -> Suite:
    """Merge the rounds of one suite, with all samples in the order in which they were taken.

    sensors: the summary over all rounds. spread: the coefficient of variation above which a metric is marked noisy.
    """
    last = rounds[-1]
    return last.model_copy(
        update={
            "seconds": round(sum(suite.seconds for suite in rounds), 1),
            "sensors": sensors,
            "metrics": {
                name: metric(
                    {
                        "unit": measured.unit,
                        "better": measured.better,
                        "samples": [value for suite in rounds for value in suite.metrics[name].samples],
                    },
                    spread,
                )
                for name, measured in last.metrics.items()
            },
        }
    )


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return the worst outcome; `not judged` for an empty list."""
    return max(outcomes, key=WORST.index, default="not judged")


def load(file: Path) -> Result:
    """Load a result from a file. Raises VaultCubeError if the file is no result of this schema version."""
    try:
        text = file.read_text()
    except OSError as err:
        raise VaultCubeError(f"{file}: {err.strerror}; run `gpu.benchmark` to create a result") from None
    try:
        return Result.model_validate_json(text)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ":".join(str(part) for part in first["loc"])
        raise VaultCubeError(f"{file}: not a benchmark result of schema {VERSION}: {where}: {first['msg']}") from None
