"""Schema of a benchmark result, version 2. A value that was not measured is absent or null, never 0."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vault_cube.bench.fields import Gpu, Measured, Phases
from vault_cube.bench.judge.interval import median_interval, variation
from vault_cube.errors import VaultCubeError
from vault_cube.settings.benchmark import LEAST
from vault_cube.verdicts import Status, Verdict

VERSION = 2

State = Literal["measured", "failed", "interrupted", "not measured"]


class Part(BaseModel):
    """Base of all parts of a result. Unknown keys are errors: a new key needs a new schema version."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Part):
    """A measured or derived quantity with its raw samples."""

    quantity: str = Field(description="what was measured: matmul, host to device, efficiency …")
    subject: str | None = Field(description="its case: a precision, a model, a size, a load of the server")
    device: str | None = Field(description="the device, or the source of a copy; null: all of them together")
    peer: str | None = Field(description="the target of a copy between devices")
    phase: str | None = Field(description="key of the suite's sensor readings that were taken at the same time")
    unit: str
    better: Literal["higher", "lower"]
    samples: list[float] = Field(min_length=1)
    median: float
    low: float | None = Field(description="lower end of the 95 % interval of the median; null below 5 samples")
    high: float | None
    variation: float = Field(description="coefficient of variation of the samples")
    noisy: bool

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies the metric within its suite."""
        return self.quantity, self.subject or "", self.device or "", self.peer or ""

    @property
    def label(self) -> str:
        """Name for readers: `matmul bfloat16 cuda:0`, `device to device cuda:0 to cuda:1`."""
        devices = f"{self.device} to {self.peer}" if self.peer else self.device
        return " ".join(part for part in (self.quantity, self.subject, devices) if part)


class Check(Part):
    """A comparison of data that was copied or reduced with the expected data."""

    quantity: str
    device: str | None
    peer: str | None
    compared: int = Field(description="number of values compared")
    wrong: int = Field(description="number of values that differ")


class Suite(Part):
    """The outcome of one workload."""

    status: State
    reason: str | None = Field(description="reason for missing metrics, one line")
    kind: str | None = Field(
        description="out of memory, gpu lost, hang, killed, missing, interrupted, refused or error"
    )
    seconds: float
    command: list[str]
    device: str | None
    workload: dict[str, Any]
    versions: dict[str, str | None]
    metrics: list[Metric]
    checks: list[Check]
    sensors: Phases = Field(description="sensor readings by phase of the workload and device")

    def of(self, quantity: str, subject: str | None = None) -> list[Metric]:
        """Return the metrics of a quantity, of all devices. subject: only this case; None: all cases."""
        return [metric for metric in self.metrics if metric.quantity == quantity and subject in (None, metric.subject)]

    def single(self, quantity: str, subject: str | None = None) -> Metric | None:
        """Return the first metric of a quantity, or None."""
        return next(iter(self.of(quantity, subject)), None)


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
    gpus: list[Gpu]
    load: list[float] = Field(description="load averages at the start: 1, 5, 15 minutes")


class Result(Part):
    """One run of `gpu.benchmark`."""

    schema_version: Literal[2]
    name: str
    started: str = Field(description="UTC, ISO 8601")
    seconds: float
    quick: bool
    forced: bool
    machine: Machine
    suites: dict[str, Suite]
    derived: list[Metric] = Field(description="metrics derived from several suites: MFU, roofline, tokens per joule")
    verdicts: list[Verdict]
    verdict: Status = Field(description="the worst status of the verdicts")
    notes: list[str]


def metric(measured: Measured, spread: float) -> Metric:
    """Return a metric with its statistics.

    spread: the coefficient of variation above which the metric is marked noisy.
    """
    samples = [float(value) for value in measured["samples"]]
    low, high = median_interval(samples) if len(samples) >= LEAST else (None, None)
    varied = variation(samples)
    return Metric(
        quantity=measured["quantity"],
        subject=measured.get("subject"),
        device=measured.get("device"),
        peer=measured.get("peer"),
        phase=measured.get("phase"),
        unit=measured["unit"],
        better=measured["better"],
        samples=samples,
        median=statistics.median(samples),
        low=low,
        high=high,
        variation=varied,
        noisy=varied > spread,
    )


def scaled(measured: Metric, quantity: str, unit: str, factor: float, spread: float) -> Metric:
    """Return a metric whose samples are those of another one times a factor."""
    fields: Measured = {**basis(measured), "quantity": quantity, "unit": unit}
    return metric({**fields, "samples": [sample * factor for sample in measured.samples]}, spread)


def basis(measured: Metric) -> Measured:
    """Return the fields of a metric that its statistics do not change."""
    return {
        "quantity": measured.quantity,
        "subject": measured.subject,
        "device": measured.device,
        "peer": measured.peer,
        "phase": measured.phase,
        "unit": measured.unit,
        "better": measured.better,
        "samples": measured.samples,
    }


def pooled(rounds: Sequence[Suite], sensors: Phases, spread: float) -> Suite:
    """Merge the rounds of one suite, with all samples in the order in which they were taken.

    sensors: the summary over all rounds. spread: the coefficient of variation above which a metric is marked noisy. A
    metric that a round lacks, such as a shape's that was chosen only once, keeps the samples of the other rounds.
    """
    samples: dict[tuple[str, str, str, str], list[float]] = {}
    latest: dict[tuple[str, str, str, str], Metric] = {}
    for suite in rounds:
        for measured in suite.metrics:
            samples.setdefault(measured.key, []).extend(measured.samples)
            latest[measured.key] = measured
    checks: dict[tuple[str, str | None, str | None], Check] = {}
    for check in (check for suite in rounds for check in suite.checks):
        name = check.quantity, check.device, check.peer
        old = checks.get(name)
        checks[name] = (
            check.model_copy(update={"compared": check.compared + old.compared, "wrong": check.wrong + old.wrong})
            if old
            else check
        )
    return rounds[-1].model_copy(
        update={
            "seconds": round(sum(suite.seconds for suite in rounds), 1),
            "sensors": sensors,
            "metrics": [metric({**basis(latest[key]), "samples": values}, spread) for key, values in samples.items()],
            "checks": list(checks.values()),
        }
    )


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
