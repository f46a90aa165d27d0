"""Pillar section `benchmark`: suites, their length, and the thresholds of their results."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vault_cube.settings.strict import AbsolutePath, Fraction, Section

LEAST = 5
"""Fewest samples that give an interval: the range of 4 samples contains the median in only 87 % of cases."""

Suite = Literal["matmul", "ddp", "tensorflow", "vllm"]
Seconds = Annotated[float, Field(gt=0, strict=False)]
Positive = Annotated[float, Field(gt=0, strict=False)]


class Effort(Section):
    """Length of a benchmark run."""

    rounds: Annotated[
        int, Field(ge=1, description="Number of passes over all suites; samples minutes apart show drift")
    ]
    repeats: Annotated[int, Field(ge=1, description="Number of timed runs per round")]
    seconds: Seconds = Field(description="Approximate length of a timed run")
    steady_s: Seconds = Field(description="Length of the continuous run during which sensors are read")
    limits_s: dict[Suite, int] = Field(description="Time limit of a suite in one round")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.rounds * self.repeats < LEAST:
            raise ValueError(f"rounds x repeats is below {LEAST}, too few samples for an interval: raise one of them")
        return self


class Thresholds(Section):
    """Values that the lower end of a result's interval must exceed; null: not judged."""

    ddp_efficiency: Fraction | None = Field(description="Weak-scaling efficiency of each model, T_N / (N * T_1)")
    vllm_tokens_per_s: Positive | None = Field(description="Output tokens per second at batch size 1")
    vllm_roofline: Fraction | None = Field(
        description="Batch-1 decoding rate as a share of memory bandwidth / weight bytes"
    )
    utilisation: Fraction | None = Field(description="Utilisation (NVML) of the least busy GPU during DDP training")


class Quiet(Section):
    """Limits beyond which a machine is too busy for a measurement."""

    gpu_utilisation: Fraction = Field(
        description="GPU utilisation above which a benchmark does not start; force=True overrides it"
    )
    load_per_core: Positive = Field(
        description="Load average of 1 minute, per core, above which a result is marked noisy"
    )
    spread: Fraction = Field(description="Coefficient of variation above which a number is marked noisy")


class Ceiling(Section):
    """A vendor's peak figures for a device, for the share of them that is reached."""

    device: str = Field(min_length=1, description="Text that the device's name in NVML contains")
    bfloat16_tflops: Positive = Field(description="Peak of dense bfloat16 with float32 accumulation")
    memory_gb_s: Positive = Field(description="Peak memory bandwidth (1 GB = 10^9 bytes)")
    source: str = Field(min_length=1, description="Document that the figures are from")


class Comparison(Section):
    """When the difference of two results is reported as a change."""

    p: Annotated[float, Field(ge=0, le=1, description="Largest p-value of the permutation test")]
    least: Fraction = Field(description="Smallest relative change")


class Stress(Section):
    """The burn-in, `gpu.stress`."""

    sample_s: Seconds = Field(description="Time between two samples")
    sync_s: Seconds = Field(description="Longest time until samples are written to disk")
    memory: dict[Literal["cpu", "nvidia"], Fraction] = Field(description="Share of the free memory to fill")
    stop_celsius: Annotated[int, Field(ge=40, le=120, description="Temperature at which the burn-in stops")]
    throttle_share: dict[str, Fraction] = Field(
        description="Share of time in which a throttle reason may be active; 0 for one that is not named"
    )
    clock_drop: Fraction = Field(description="Largest drop of the median clock against the first hour")
    silence_s: Seconds = Field(description="Time without output after which a burn-in counts as hung")
    background_s: Seconds = Field(description="Length above which a burn-in runs as a systemd unit")
    unit: Annotated[str, Field(pattern=r"^[a-z-]+\.service$", description="Name of that unit")]


class Benchmark(Section):
    """Benchmarks and burn-in, for `gpu.benchmark`, `gpu.benchmark_compare`, `gpu.stress` and `gpu.report`."""

    results: AbsolutePath = Field(description="Folder of the results")
    suites: list[Suite] = Field(min_length=1, description="Suites, in the order in which they run")
    environments: dict[Suite, str] = Field(description="Environment of `frameworks` that runs a suite")
    cpu_workers: Annotated[int, Field(ge=2, description="Number of DDP workers without GPUs")]
    model: AbsolutePath | None = Field(
        description="Folder of the model for vLLM; null: random weights of a fixed shape"
    )
    tensor_parallel: Annotated[int, Field(ge=1, description="Number of GPUs per vLLM engine")]
    full: Effort = Field(description="Length of a full run")
    quick: Effort = Field(description="Length of a quick run, quick=True")
    quiet: Quiet
    thresholds: dict[Literal["cpu", "nvidia"], Thresholds] = Field(
        description="Thresholds for results on a CPU and on NVIDIA GPUs"
    )
    ceilings: list[Ceiling] = Field(description="Peak figures of vendors by device")
    compare: Comparison
    stress: Stress
