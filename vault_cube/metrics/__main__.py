"""The program that the timers run: `python -m vault_cube.metrics gpus|disks FOLDER` writes one file of readings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vault_cube.errors import VaultCubeError, shown
from vault_cube.metrics import disks, exposition


def main(arguments: list[str]) -> int:
    """Read the metrics and write them to a file. Returns the exit status; prints an error in one line."""
    parser = argparse.ArgumentParser(prog="vault_cube.metrics", description="write readings for the node exporter")
    parser.add_argument("what", choices=["gpus", "disks"])
    parser.add_argument("folder", type=Path, help="the node exporter's textfile folder")
    parser.add_argument("--answer-s", type=float, help="gpus: time limit for an answer of the driver, seconds")
    parser.add_argument("--beside-dcgm", action="store_true", help="leave out metrics that dcgm-exporter has")
    chosen = parser.parse_args(arguments)
    if chosen.what == "gpus" and chosen.answer_s is None:
        parser.error("gpus needs --answer-s, the pillar's gpu:answer_s")
    try:
        if chosen.what == "disks":
            families = disks.families()
        else:
            # imported here, because the timer of the disks does not need NVML
            from vault_cube.gpu.nvml.session import Session
            from vault_cube.metrics import gpus

            with Session(chosen.answer_s) as session:
                # the node exporter reads files that end in .prom, and no other
                memory = chosen.folder / ".vault-cube-xids.json"
                families = gpus.families(session, beside_dcgm=chosen.beside_dcgm, memory=memory)
        exposition.write(chosen.folder, f"vault-cube-{chosen.what}", families)
    except VaultCubeError as err:
        print(shown(err), file=sys.stderr)
        return 1
    except OSError as err:
        print(f"{err.filename or chosen.folder}: {err.strerror}: make it writable for the service", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
