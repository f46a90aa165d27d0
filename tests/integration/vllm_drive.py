"""Start the command of the vLLM service and send it a request. Runs in the image's tree, in the vllm environment.

The service has the system calls and the capabilities of its unit, and reaches loopback only, as under systemd.
"""

import ctypes
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# float16: for bfloat16, vLLM 0.32 computes the attention with AMX where the CPU has it, and ends with SIGILL in a model
# this small, in which no other library has asked the kernel for the permission to use AMX
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 512,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "torch_dtype": "float16",
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LOG = Path("/tmp/vllm.log")


def make_model(folder):
    """Write a model without weights, and a tokenizer for the words w3 to w511."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(MODEL))
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, 512)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def system_calls(unit):
    """The names in SystemCallFilter= of a unit, without groups."""
    names, todo = set(), re.search(r"^SystemCallFilter=(.+)$", unit, re.MULTILINE)[1].split()
    while todo:
        name = todo.pop()
        if name.startswith("@"):
            listed = subprocess.run(
                ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
            )
            lines = (line.partition("#")[0].strip() for line in listed.stdout.splitlines()[1:])
            todo += [line for line in lines if line]
        else:
            names.add(name)
    return names


def run_with(calls, words):
    """Replace this process with a program that can use these system calls only; any other returns EPERM."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    refuse, allow = 0x00050000 | 1, 0x7FFF0000  # seccomp.h: SCMP_ACT_ERRNO(EPERM), SCMP_ACT_ALLOW
    rules = ctypes.c_void_p(library.seccomp_init(refuse))
    for name in calls:
        number = library.seccomp_syscall_resolve_name(name.encode())
        # negative: another architecture's
        if number >= 0:
            assert library.seccomp_rule_add_array(rules, allow, number, 0, None) == 0, name
    assert library.seccomp_load(rules) == 0
    os.execvp(words[0], words)


def wait_for(address, server):
    until = time.monotonic() + 300
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(1)
        else:
            return
    sys.exit("the service did not start: " + LOG.read_text()[-1500:])


def main():
    unit = Path("/etc/systemd/system/vault-cube-vllm@.service").read_text()
    environ = dict(line.split("=", 1) for line in re.findall(r"^Environment=(.+)$", unit, re.MULTILINE))
    environ |= dict(line.split("=", 1) for line in Path("/etc/vault-cube/vllm/0.env").read_text().split())
    line = re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)[1]
    words = shlex.split(line.replace("${VAULT_CUBE_PORT}", environ["VAULT_CUBE_PORT"]))
    model = Path(words[words.index("--model") + 1])
    make_model(model)
    account = re.search(r"^User=(.+)$", unit, re.MULTILINE)[1]
    home = Path(environ["HOME"])  # on a running box, systemd makes it (StateDirectory=)
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(["chown", account, home], check=True)
    who = [
        "setpriv",
        f"--reuid={account}",
        f"--regid={account}",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
    ]
    who += [sys.executable, "-B", __file__, ",".join(sorted(system_calls(unit)))]
    base = f"http://127.0.0.1:{environ['VAULT_CUBE_PORT']}"
    with LOG.open("w") as log:
        server = subprocess.Popen(
            [*who, *words, "--load-format", "dummy"],
            env={"PATH": "/usr/bin:/bin", **environ}, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_for(f"{base}/health", server)
            body = {"model": model.name, "prompt": "w5 w6 w7", "max_tokens": 8, "ignore_eos": True}
            completion = urllib.request.Request(
                f"{base}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            try:
                answer = json.load(urllib.request.urlopen(completion, timeout=60))
            except urllib.error.HTTPError as err:
                sys.exit(f"{err}: {err.read()[:500]!r}: {LOG.read_text()[-3000:]}")
            metrics = urllib.request.urlopen(f"{base}/metrics", timeout=60).read().decode()
            names = sorted(set(re.findall(r"^(vllm:\w+)", metrics, re.MULTILINE)))
            print(json.dumps({**answer, "metrics": names}))
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_with(sys.argv[1].split(","), sys.argv[2:])
    main()
