"""Pillar section `benchmark`: suites, their length, and the thresholds of their results."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vault_cube.settings.strict import AbsolutePath, Fraction, Port, Section

LEAST = 5
"""Fewest samples that give an interval: the range of 4 samples contains the median in only 87 % of cases."""

Suite = Literal["matmul", "copies", "all_reduce", "ddp", "tensorflow", "vllm"]
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
    """Values that the lower end of a result's interval must exceed; null: not applicable."""

    matmul: Fraction | None = Field(description="Each card's bfloat16 product as a share of the vendor's peak")
    memory: Fraction | None = Field(description="Each card's memory copy as a share of the vendor's bandwidth")
    host_copy: Fraction | None = Field(
        description="Copy between host and one card at a time, as a share of the PCIe link's rate"
    )
    host_copy_together: Fraction | None = Field(description="The same for all cards at once")
    all_reduce_nvlink: Fraction | None = Field(
        description="Bus bandwidth of the largest all-reduce, as a share of the card's NVLink in one direction"
    )
    all_reduce_pcie: Fraction | None = Field(description="The same over PCIe, as a share of the link's rate")
    training: Fraction | None = Field(
        description="Model FLOP/s of the transformer (DDP) and the dense network (TensorFlow), as a share of the peak"
    )
    ddp_efficiency: Fraction | None = Field(description="Weak-scaling efficiency of each model, T_N / (N * T_1)")
    utilisation: Fraction | None = Field(description="Utilisation (NVML) of the least busy GPU during DDP training")
    vllm_tokens_per_s: Positive | None = Field(description="Output tokens per second of one request at a time")
    vllm_roofline: Fraction | None = Field(
        description="Decoding of one request, as a share of memory bandwidth / bytes read per token"
    )
    siblings: Fraction | None = Field(
        description="Each card's rates as a share of the median of the other cards of its model"
    )


class Quiet(Section):
    """Limits beyond which a machine is too busy for a measurement."""

    gpu_utilisation: Fraction = Field(
        description="GPU utilisation above which a benchmark does not start; force=True overrides it"
    )
    gpu_memory_mib: Annotated[int, Field(ge=0)] = Field(
        description="GPU memory in use by programs above which a benchmark does not start"
    )
    load_per_core: Positive = Field(
        description="Load average of 1 minute, per core, above which a result is marked noisy"
    )
    spread: Fraction = Field(description="Coefficient of variation above which a number is marked noisy")


class PcieLink(Section):
    """The PCIe link of a card."""

    generation: Annotated[int, Field(ge=3, le=5, description="PCIe generation")]
    width: Annotated[int, Field(ge=1, le=16, description="Number of lanes")]


class Serving(Section):
    """What is asked of vLLM's server."""

    requests_per_s: list[Positive] = Field(description="Rates of requests, one measurement each")
    tensor_parallel: list[Annotated[int, Field(ge=2)]] = Field(
        description="Sizes of tensor parallelism to measure, if the box has so many GPUs"
    )
    concurrent: Annotated[int, Field(ge=1, description="Requests at the same time when a server is saturated")]
    start_s: Seconds = Field(description="Time that a server has to answer its first request")


class Together(Section):
    """Training over several boxes at the same time, `gpu.benchmark ddp boxes= rendezvous=`."""

    port: Port = Field(description="TCP port of the box at which the others meet; the data takes other ports")
    wait_s: Annotated[int, Field(ge=1, description="Time that a box waits for the others")]


class Ceiling(Section):
    """A vendor's peak figures for a card; null: not published."""

    devices: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="Names of the card as NVML returns them, complete: a Laptop GPU is another card"
    )
    bfloat16_tflops: Positive | None = Field(description="Peak of dense bfloat16 with float32 accumulation")
    memory_gb_s: Positive | None = Field(description="Peak memory bandwidth (1 GB = 10^9 bytes)")
    pcie: PcieLink
    nvlink_gb_s: Positive | None = Field(
        default=None, description="Peak of NVLink between all cards of a box, in one direction"
    )
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
    blind_s: Seconds = Field(description="Time without a reading of a GPU's temperature after which the burn-in stops")
    unread_share: Fraction = Field(description="Share of a GPU's samples that may lack its temperature")
    throttle_share: dict[str, Fraction] = Field(
        description="Share of time in which a throttle reason may be active; 0 for one that is not named"
    )
    clock_drop: Fraction = Field(description="Largest drop of the median clock against the first hour")
    siblings: Fraction = Field(
        description="A GPU's least speed in each hour, as a share of the median of the other GPUs of its model"
    )
    speed_share: Fraction = Field(description="A GPU's least median speed, as a share of the vendor's bfloat16 peak")
    clock_share: Fraction = Field(description="A GPU's least median clock, as a share of its highest clock")
    power_share: Fraction = Field(description="A GPU's least median power, as a share of its power limit")
    pcie_replays: Annotated[int, Field(ge=0, description="Most replays of a GPU's PCIe link in an hour")]
    pcie_corrected: Annotated[int, Field(ge=0, description="Most corrected PCIe errors (AER) of a GPU in an hour")]
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
    serving: Serving
    together: Together
    full: Effort = Field(description="Length of a full run")
    quick: Effort = Field(description="Length of a quick run, quick=True")
    quiet: Quiet
    thresholds: dict[Literal["cpu", "nvidia"], Thresholds] = Field(
        description="Thresholds for results on a CPU and on NVIDIA GPUs"
    )
    ceilings: list[Ceiling] = Field(description="Peak figures of vendors by device")
    compare: Comparison
    stress: Stress
