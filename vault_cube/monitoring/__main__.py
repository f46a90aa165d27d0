"""What the timers run: `python -m vault_cube.monitoring gpus|disks FOLDER` writes one file of readings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.monitoring import disks, exposition


def main(arguments: list[str]) -> int:
    """Read and write. Returns the exit status; an error is one line."""
    parser = argparse.ArgumentParser(prog="vault_cube.monitoring", description="write readings for the node exporter")
    parser.add_argument("what", choices=["gpus", "disks"])
    parser.add_argument("folder", type=Path, help="the node exporter's textfile folder")
    parser.add_argument("--beside-dcgm", action="store_true", help="leave out what dcgm-exporter says")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == "disks":
            families = disks.families()
        else:
            # the disks' timer has no use for NVML
            from vault_cube.gpu import exporter
            from vault_cube.gpu.session import Session

            with Session() as session:
                # the node exporter reads files that end in .prom, and no other
                memory = chosen.folder / ".vault-cube-xids.json"
                families = exporter.families(session, beside_dcgm=chosen.beside_dcgm, memory=memory)
        exposition.write(chosen.folder, f"vault-cube-{chosen.what}", families)
    except VaultCubeError as err:
        print(err, file=sys.stderr)
        return 1
    except OSError as err:
        print(f"{err.filename or chosen.folder}: {err.strerror}: the service needs to write there", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
