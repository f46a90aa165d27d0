"""Multiply matrices on each device and print how many products are correct. Run it with the tensorflow environment."""

import json

import tensorflow as tf

gpus = tf.config.list_physical_devices("GPU")
right = 0
for device in [f"/GPU:{n}" for n in range(len(gpus))] or ["/CPU:0"]:
    with tf.device(device):
        product = tf.linalg.matmul(tf.ones((256, 256)), tf.ones((256, 256)))
    right += bool(tf.reduce_all(product == 256).numpy())
print(json.dumps({"version": tf.__version__, "gpus": len(gpus), "right": right}))
