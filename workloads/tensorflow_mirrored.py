"""Scaling of training under TensorFlow's MirroredStrategy: all GPUs, or two logical devices of a CPU.

Weak scaling, fixed batch per replica: E = T_N / (N * T_1), T in samples/s, T_1 under OneDeviceStrategy. The repeats of
both are interleaved.
"""

from __future__ import annotations

import argparse
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


def main() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="approximate length of one timed run, seconds")
    parser.add_argument(
        "--steady", type=float, default=10.0, help="length of the run in which sensors are read, seconds"
    )
    options = parser.parse_args()

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        devices = [f"GPU:{index}" for index in range(len(gpus))]
    else:
        # one core per replica, because the baseline would otherwise use all cores
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(2)
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        devices = ["CPU:0", "CPU:1"]
    size, count = SIZES["gpu" if gpus else "cpu"], len(devices)
    single = tf.distribute.OneDeviceStrategy(devices[0])
    mirrored = tf.distribute.MirroredStrategy(devices) if count > 1 else single

    probe = trainer(tf, single, size, 1)
    steps = workload.steps_for(options.seconds, probe, lambda: None)
    alone = trainer(tf, single, size, steps)
    together = trainer(tf, mirrored, size, steps) if count > 1 else alone
    for train in (alone, together):
        loss = train()
        if not 0 < loss < float("inf"):
            raise ArithmeticError(f"the loss is {loss}: the training step computes wrong values")
    workload.progress(0.3, "warmed up")

    def rate(train: Callable[[], float], replicas: int) -> float:
        started = time.perf_counter()
        train()
        return replicas * size["batch"] * steps / (time.perf_counter() - started)

    solo, weak = [], []
    for repeat in range(options.repeats):
        solo.append(rate(alone, 1))
        if count > 1:
            weak.append(rate(together, count))
        workload.progress(0.3 + 0.6 * (repeat + 1) / options.repeats, f"repeat {repeat + 1} of {options.repeats}")
    workload.say("phase", "steady")
    end = time.perf_counter() + options.steady
    while time.perf_counter() < end:
        together()
    workload.say("phase")
    # three products per layer: forward, gradient of weights, gradient of input (not in the first layer)
    flops = (6 * size["layers"] - 2) * size["width"] ** 2
    metrics = {
        "solo": workload.metric("samples/s", solo),
        "model_flops": workload.metric("TFLOP/s per device", [rate * flops / count / 1e12 for rate in (weak or solo)]),
    }
    if count > 1:
        metrics["weak"] = workload.metric("samples/s", weak)
        metrics["efficiency"] = workload.metric("ratio", [w / (count * s) for w, s in zip(weak, solo, strict=True)])
    build = tf.sysconfig.get_build_info()
    return {
        "workload": {
            **size,
            "devices": count,
            "steps": steps,
            "repeats": options.repeats,
            "flop_per_sample": flops,
            "batch_per_device": size["batch"],
            # TensorFlow's default on GPUs that support TF32: float32 in and out, 10 bits of mantissa in the product
            "precision": "tf32" if gpus and tf.config.experimental.tensor_float_32_execution_enabled() else "float32",
        },
        "versions": {
            "tensorflow": tf.__version__,
            "cuda": build.get("cuda_version"),
            "cudnn": build.get("cudnn_version"),
        },
        "device": tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu",
        "metrics": metrics,
    }


if __name__ == "__main__":
    workload.run(main)
