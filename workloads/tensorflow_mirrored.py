"""Scaling of training under TensorFlow's MirroredStrategy: all GPUs, or two logical devices of a CPU.

Weak scaling, fixed batch per replica: E = T_N / (N * T_1), T in samples/s. T_1 under OneDeviceStrategy is measured on
every device, and the fastest one counts. The repeats of all are interleaved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import workload

SIZES = {
    "gpu": {"layers": 8, "width": 4096, "batch": 4096},
    "cpu": {"layers": 4, "width": 768, "batch": 256},
}


def trainer(tf: Any, strategy: Any, size: dict[str, int], steps: int) -> Callable[[], float]:
    """Return a function that trains a dense network for `steps` steps on all replicas and returns the last loss."""
    width, batch = size["width"], size["batch"]
    with strategy.scope():
        scale = (2 / width) ** 0.5
        weights = [
            tf.Variable(tf.random.stateless_normal([width, width], [1, n], stddev=scale)) for n in range(size["layers"])
        ]
        optimizer = tf.keras.optimizers.SGD(1e-3)
        optimizer.build(weights)
    # one copy per replica: inputs on a single device would be transferred from it in every step
    inputs = tf.function(lambda: strategy.run(lambda: tf.random.stateless_normal([batch, width], [2, 0])))()

    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            h = x
            for weight in weights:
                h = tf.nn.relu(h @ weight)
            loss = tf.reduce_mean(h * h) / strategy.num_replicas_in_sync
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    @tf.function
    def run() -> Any:
        return strategy.run(step, args=(inputs,))

    def train() -> float:
        value = None
        for _ in range(steps):
            value = run()
        # reading the loss on the host waits until all steps are done
        return sum(float(part) for part in strategy.experimental_local_results(value))

    return train


def devices_of(tf: Any) -> tuple[list[Any], list[str]]:
    """Return the GPUs, and the names of the devices to train on: the GPUs, or two logical devices of the CPU."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        return gpus, [f"GPU:{index}" for index in range(len(gpus))]
    # one core per replica, because the baseline would otherwise use all cores
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    return [], ["CPU:0", "CPU:1"]


def rate(train: Callable[[], float], samples: int) -> float:
    """Return samples per second of one call that trains on so many samples."""
    started = time.perf_counter()
    train()
    return samples / (time.perf_counter() - started)


def steady(train: Callable[[], float], samples: int, seconds: float) -> list[float]:
    """Train for so many seconds without a pause; return samples per second of each call."""
    workload.say("phase", "steady")
    end, rates = time.perf_counter() + seconds, []
    while time.perf_counter() < end or not rates:
        rates.append(rate(train, samples))
    workload.say("phase")
    return rates


def metrics_of(
    alone: dict[str, list[float]], weak: list[float], flops: float, constant: list[float]
) -> list[dict[str, Any]]:
    """Return the metrics.

    alone: samples/s of each repeat by device. weak: of all replicas together; empty with one device. flops: FLOP per
    sample. constant: samples/s of the steady run.
    """
    count = len(alone)
    fastest = [max(repeat) for repeat in zip(*alone.values(), strict=True)]
    metrics = [
        workload.metric("training alone", "samples/s", samples, subject="dense", device=device, phase="alone")
        for device, samples in alone.items()
    ]
    trained = weak or fastest
    metrics.append(
        workload.metric(
            "model flops",
            "TFLOP/s per device",
            [samples_per_s * flops / count / 1e12 for samples_per_s in trained],
            subject="dense",
        )
    )
    metrics.append(workload.metric("training steady", "samples/s", constant, subject="dense", phase="steady"))
    if weak:
        ratios = [w / (count * s) for w, s in zip(weak, fastest, strict=True)]
        metrics.append(workload.metric("training weak", "samples/s", weak, subject="dense", phase="weak"))
        metrics.append(workload.metric("efficiency", "ratio", ratios, subject="dense"))
    return metrics


def description(tf: Any, size: dict[str, int], steps: int, *, gpu: bool) -> dict[str, Any]:
    """Describe the model for the document. size: an entry of `SIZES`. steps: in each timed run."""
    tf32 = gpu and tf.config.experimental.tensor_float_32_execution_enabled()
    return {
        **size,
        "steps": steps,
        # three products per layer: forward, gradient of weights, gradient of input (not in the first layer)
        "flop_per_sample": (6 * size["layers"] - 2) * size["width"] ** 2,
        "batch_per_device": size["batch"],
        # TensorFlow's default on GPUs that support TF32: float32 in and out, 10 bits of mantissa in the product
        "precision": "tf32" if tf32 else "float32",
    }


def main() -> dict[str, Any]:
    options = workload.effort(__doc__).parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    gpus, devices = devices_of(tf)
    size, count = SIZES["gpu" if gpus else "cpu"], len(devices)
    batch = size["batch"]
    singles = [tf.distribute.OneDeviceStrategy(device) for device in devices]
    steps = workload.steps_for(options.seconds, trainer(tf, singles[0], size, 1), lambda: None)
    alone = [trainer(tf, single, size, steps) for single in singles]
    together = trainer(tf, tf.distribute.MirroredStrategy(devices), size, steps) if count > 1 else alone[0]
    for train in {*alone, together}:
        loss = train()
        if not 0 < loss < float("inf"):
            raise ArithmeticError(f"the loss is {loss}: the training step computes wrong values")
    workload.progress(0.3, "warmed up")

    names = [device.lower().replace("gpu:", "cuda:") for device in devices]
    rates: dict[str, list[float]] = {name: [] for name in names}
    weak: list[float] = []
    for repeat in range(options.repeats):
        workload.say("phase", "alone")
        for name, train in zip(names, alone, strict=True):
            rates[name].append(rate(train, batch * steps))
        if count > 1:
            workload.say("phase", "weak")
            weak.append(rate(together, count * batch * steps))
        workload.say("phase")
        workload.progress(0.3 + 0.6 * (repeat + 1) / options.repeats, f"repeat {repeat + 1} of {options.repeats}")
    constant = steady(together, count * batch * steps, options.steady)
    model = description(tf, size, steps, gpu=bool(gpus))
    build = tf.sysconfig.get_build_info()
    return {
        "workload": {"devices": count, "repeats": options.repeats, "models": {"dense": model}},
        "versions": {
            "tensorflow": tf.__version__,
            "cuda": build.get("cuda_version"),
            "cudnn": build.get("cudnn_version"),
        },
        "device": tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu",
        "metrics": metrics_of(rates, weak, model["flop_per_sample"], constant),
    }


if __name__ == "__main__":
    workload.run(main)
