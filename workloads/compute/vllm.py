"""Runs under the vllm environment's Python: a tiny model with random weights generates exactly the tokens asked for.

Each GPU has a replica of its own, all at once, as the box's service has. A build for CUDA has no engine for the CPU:
without a GPU its compiled kernels are loaded and its layers compute, and the result says so.
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
    """vLLM's processes talk over loopback, which is down in a fresh network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(handle, 0x8913, request)[:18])[1]  # SIOCGIFFLAGS
        if not flags & 1 and os.geteuid() == 0:
            fcntl.ioctl(handle, 0x8914, struct.pack("16sh", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


def generate():
    """Whether the model gives as many tokens as it is asked for."""
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL))
        model = LLM(model=folder, load_format="dummy", skip_tokenizer_init=True, max_model_len=256, enforce_eager=True)
        asked = SamplingParams(max_tokens=TOKENS, ignore_eos=True, detokenize=False, temperature=0)
        answers = model.generate([{"prompt_token_ids": [5, 6, 7]}] * 2, asked, use_tqdm=False)
    # a count is asserted: --skip-tokenizer-init was seen to cap the output at one token
    return all(len(answer.outputs[0].token_ids) == TOKENS for answer in answers)


def layers():
    """Whether a CUDA build's kernels load, and its layers and its sampler give on the CPU what plain PyTorch gives."""
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
    kept = apply_top_k_top_p_pytorch(gated.clone(), torch.full((4,), 3), None)
    # a token that the sampler drops has the logit -inf
    kept = kept[kept.isfinite()].view(4, 3).sort(descending=True).values
    return torch.allclose(gated, expected, atol=1e-5) and torch.equal(kept, gated.topk(3).values)


def on_each(gpus):
    """How many GPUs give the right answer, each seen by a process of its own."""
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
    said = {"version": __version__, "gpus": gpus}
    if torch.version.cuda and not gpus:
        said |= {"right": int(layers()), "note": "kernels load, layers and sampler compute; no text without a GPU"}
    else:
        said["right"] = on_each(gpus) if gpus > 1 else int(generate())
    print(json.dumps(said))


if __name__ == "__main__":
    main()
