"""Multiply matrices on each device and print how many products are correct. Run it with the pytorch environment."""

import json

import torch

gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
right = 0
for device in [f"cuda:{n}" for n in range(gpus)] or ["cpu"]:
    product = torch.ones(256, 256, device=device) @ torch.ones(256, 256, device=device)
    right += bool((product == 256).all().item())
print(json.dumps({"version": torch.__version__, "gpus": gpus, "right": right}))
