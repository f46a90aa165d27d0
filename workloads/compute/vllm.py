"""Generate tokens with a tiny model of random weights, and check their number. Run it with the vllm environment.

Each GPU has its own replica, and all of them run at the same time, as in the box's service. A CUDA build has no engine
for the CPU: without a GPU, this program loads the compiled kernels and computes some layers, and prints a note.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

TOKENS = 8
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 512,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def loopback_up():
    """Bring loopback up: vLLM's processes communicate over it, and it is down in a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(handle, 0x8913, request)[:18])[1]  # SIOCGIFFLAGS
        if not flags & 1 and os.geteuid() == 0:
            fcntl.ioctl(handle, 0x8914, struct.pack("16sh", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


def generate():
    """Return whether the model generates the requested number of tokens."""
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL))
        model = LLM(model=folder, load_format="dummy", skip_tokenizer_init=True, max_model_len=256, enforce_eager=True)
        sampling = SamplingParams(max_tokens=TOKENS, ignore_eos=True, detokenize=False, temperature=0)
        answers = model.generate([{"prompt_token_ids": [5, 6, 7]}] * 2, sampling, use_tqdm=False)
    # check the count, because --skip-tokenizer-init was observed to limit the output to one token
    return all(len(answer.outputs[0].token_ids) == TOKENS for answer in answers)


def layers():
    """Load a CUDA build's kernels; return whether its layers and sampler on the CPU give the same values as PyTorch."""
    import torch
    import vllm
    from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.activation import SiluAndMul
    from vllm.model_executor.layers.layernorm import RMSNorm
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

    folder = Path(vllm.__file__).parent
    for kernels in [*folder.glob("*.abi3.so"), *folder.glob("vllm_flash_attn/*.abi3.so")]:
        torch.ops.load_library(str(kernels))
    torch.manual_seed(1)
    tokens = torch.randn(4, 64)
    with set_current_vllm_config(VllmConfig(device_config=DeviceConfig("cpu"))):
        normal = RMSNorm(64, eps=1e-5, dtype=torch.float32).forward_native(tokens)
        gated = SiluAndMul().forward_native(normal)
    expected = tokens / (tokens.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = torch.nn.functional.silu(expected[:, :32]) * expected[:, 32:]
    sampled = apply_top_k_top_p_pytorch(gated.clone(), torch.full((4,), 3), None)
    # the sampler sets the logits of dropped tokens to -inf
    sampled = sampled[sampled.isfinite()].view(4, 3).sort(descending=True).values
    return torch.allclose(gated, expected, atol=1e-5) and torch.equal(sampled, gated.topk(3).values)


def on_each(gpus):
    """Return how many GPUs give the correct result; each is used by a process that sees only this GPU."""
    own = [sys.executable, "-I", "-B", __file__]
    running = [
        subprocess.Popen(own, env={**os.environ, "CUDA_VISIBLE_DEVICES": str(n)}, stdout=subprocess.PIPE, text=True)
        for n in range(gpus)
    ]
    answers = [process.communicate()[0].splitlines() for process in running]
    good = [lines for process, lines in zip(running, answers, strict=True) if process.returncode == 0]
    return sum(json.loads(lines[-1])["right"] for lines in good)


def main():
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_HOST_IP": "127.0.0.1"}
    loopback_up()
    import torch
    from vllm.version import __version__

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    report = {"version": __version__, "gpus": gpus}
    if torch.version.cuda and not gpus:
        report |= {"right": int(layers()), "note": "kernels load, layers and sampler compute; no text without a GPU"}
    else:
        report["right"] = on_each(gpus) if gpus > 1 else int(generate())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
