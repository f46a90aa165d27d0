"""Pillar section `benchmark`: what is measured, how long, and what a number must reach."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vault_cube.settings.strict import AbsolutePath, Fraction, Section

LEAST = 5
"""Fewer samples give no interval: between the least and the most of 4 a median lies in 87 % of cases only."""

Suite = Literal["matmul", "ddp", "tensorflow", "vllm"]
Seconds = Annotated[float, Field(gt=0, strict=False)]
Positive = Annotated[float, Field(gt=0, strict=False)]


class Effort(Section):
    """How much is measured."""

    rounds: Annotated[
        int, Field(ge=1, description="all suites once, so often: samples minutes apart show how a machine drifts")
    ]
    repeats: Annotated[int, Field(ge=1, description="timed runs of everything in a round")]
    seconds: Seconds = Field(description="length of one timed run, about, seconds")
    steady_s: Seconds = Field(description="length of the run without a pause that sensors are read in, seconds")
    limits_s: dict[Suite, int] = Field(description="suite -> seconds of a round after which it is ended")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.rounds * self.repeats < LEAST:
            raise ValueError(f"rounds x repeats: fewer than {LEAST} samples give no interval")
        return self


class Thresholds(Section):
    """What the lower end of a number's interval must exceed; null: it is shown and not judged."""

    ddp_efficiency: Fraction | None = Field(description="weak scaling of each model, T_N / (N * T_1)")
    vllm_tokens_per_s: Positive | None = Field(description="output tokens per second at batch 1")
    vllm_roofline: Fraction | None = Field(description="batch-1 decoding as a share of memory bandwidth / weight bytes")
    utilisation: Fraction | None = Field(description="NVML's busy share of the least busy GPU while DDP trains")


class Quiet(Section):
    """When a machine is quiet enough to be measured; `force=True` overrules the GPU's part."""

    gpu_utilisation: Fraction = Field(description="a GPU busier than this before the start is in use")
    load_per_core: Positive = Field(description="above this 1-minute load average a result says that it is noisy")
    spread: Fraction = Field(description="above this coefficient of variation a number says that it is noisy")


class Ceiling(Section):
    """What a vendor promises of a device, for the share of it that is reached."""

    device: str = Field(min_length=1, description="part of the name that NVML gives")
    bfloat16_tflops: Positive = Field(description="dense, with float32 accumulation, TFLOP/s")
    memory_gb_s: Positive = Field(description="GB/s, 10^9")
    source: str = Field(min_length=1)


class Comparison(Section):
    """When two numbers differ."""

    p: Fraction = Field(description="permutation test: how likely noise alone would differ as much, at most")
    least: Fraction = Field(description="a smaller change is no news, however certain")


class Stress(Section):
    """The burn-in."""

    sample_s: Seconds = Field(description="time between two samples, seconds")
    sync_s: Seconds = Field(description="samples reach the disk at least this often, seconds")
    memory: dict[Literal["cpu", "nvidia"], Fraction] = Field(description="share of the free memory that is filled")
    stop_celsius: Annotated[int, Field(ge=40, le=120, description="at this temperature the burn stops, deg C")]
    throttle_share: dict[str, Fraction] = Field(description="throttle reason -> share of time that is still well")
    clock_drop: Fraction = Field(description="how far the median clock may fall below that of the first hour")
    silence_s: Seconds = Field(description="a burn that says nothing for so long hangs, seconds")
    background_s: Seconds = Field(description="a longer burn runs as a systemd unit, seconds")
    unit: Annotated[str, Field(pattern=r"^[a-z-]+\.service$")]


class Benchmark(Section):
    """`gpu.benchmark`, `gpu.benchmark_compare`, `gpu.stress`, `gpu.report`."""

    results: AbsolutePath = Field(description="where results are kept")
    suites: list[Suite] = Field(min_length=1, description="in the order in which they run")
    environments: dict[Suite, str] = Field(description="suite -> the environment of `frameworks` that runs it")
    cpu_workers: Annotated[int, Field(ge=2, description="DDP workers where there is no GPU")]
    model: AbsolutePath | None = Field(description="model directory for vLLM; null: random weights of a known shape")
    tensor_parallel: Annotated[int, Field(ge=1, description="GPUs that one vLLM engine spans")]
    full: Effort
    quick: Effort
    quiet: Quiet
    thresholds: dict[Literal["cpu", "nvidia"], Thresholds] = Field(description="by what the numbers were measured on")
    ceilings: list[Ceiling]
    compare: Comparison
    stress: Stress
