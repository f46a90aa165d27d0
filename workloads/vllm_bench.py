"""Run vLLM's own `bench serve` from its module: the `vllm` command requires a package name that a CPU build lacks."""

from __future__ import annotations

from vllm.benchmarks import serve

try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
except ImportError:
    from vllm.utils import FlexibleArgumentParser


if __name__ == "__main__":
    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    serve.main(parser.parse_args())
