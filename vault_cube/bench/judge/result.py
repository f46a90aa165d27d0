"""The result's schema, version 1. Anything that was not measured is absent or null, never 0."""

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

Said = Literal["pass", "fail", "uncertain", "not judged", "fault"]
WORST: tuple[Said, ...] = ("not judged", "pass", "uncertain", "fail", "fault")
Status = Literal["measured", "failed", "interrupted", "not measured"]


class Part(BaseModel):
    """Part of a result; unknown keys are errors, so that a version means something."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Part):
    """A number with its raw samples."""

    unit: str
    better: Literal["higher", "lower"]
    samples: list[float] = Field(min_length=1)
    median: float
    low: float | None = Field(description="lower end of the 95 % interval of the median; null below 5 samples")
    high: float | None
    variation: float = Field(description="coefficient of variation of the samples")
    noisy: bool


class Verdict(Part):
    """One question of the pillar's thresholds."""

    name: str
    said: Said
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    why: str


class Suite(Part):
    """One workload's outcome."""

    status: Status
    reason: str | None = Field(description="why there are no numbers, one line")
    kind: str | None = Field(
        description="out of memory, gpu lost, hang, killed, missing, interrupted, refused or error"
    )
    seconds: float
    command: list[str]
    device: str | None
    workload: dict[str, Any]
    versions: dict[str, str | None]
    metrics: dict[str, Metric]
    sensors: dict[str, Any] = Field(description="what sensors said in the steady phase, by device")


class Machine(Part):
    """What it was measured on."""

    accelerator: Literal["cpu", "nvidia"]
    simulated: bool = Field(description="true: the GPUs were a test's")
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
    derived: dict[str, Metric | None] = Field(description="what follows from several suites: MFU, roofline")
    verdicts: list[Verdict]
    verdict: Said
    notes: list[str]


def metric(found: Mapping[str, Any], spread: float) -> Metric:
    """A workload's samples with their statistics. spread: the coefficient of variation above which they are noisy."""
    samples = [float(value) for value in found["samples"]]
    low, high = median_interval(samples) if len(samples) >= LEAST else (None, None)
    varied = variation(samples)
    return Metric(
        unit=found["unit"],
        better=found["better"],
        samples=samples,
        median=statistics.median(samples),
        low=low,
        high=high,
        variation=varied,
        noisy=varied > spread,
    )


def pooled(rounds: Sequence[Suite], sensors: dict[str, Any], spread: float) -> Suite:
    """One suite's rounds as one: all samples, in the order in which they were taken. sensors: of all rounds."""
    last = rounds[-1]
    return last.model_copy(
        update={
            "seconds": round(sum(one.seconds for one in rounds), 1),
            "sensors": sensors,
            "metrics": {
                name: metric(
                    {
                        "unit": said.unit,
                        "better": said.better,
                        "samples": [value for one in rounds for value in one.metrics[name].samples],
                    },
                    spread,
                )
                for name, said in last.metrics.items()
            },
        }
    )


def worst(said: list[Said]) -> Said:
    """The verdict of all verdicts; with nothing judged nothing is proven."""
    return max(said, key=WORST.index, default="not judged")


def load(file: Path) -> Result:
    """A result from its file. Raises VaultCubeError when it is none, or one of another version."""
    try:
        text = file.read_text()
    except OSError as err:
        raise VaultCubeError(f"{file}: {err.strerror}; `gpu.benchmark` makes a result") from None
    try:
        return Result.model_validate_json(text)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ":".join(str(part) for part in first["loc"])
        raise VaultCubeError(f"{file}: not a benchmark result of schema {VERSION}: {where}: {first['msg']}") from None
