#!/usr/bin/python3
"""A stand-in for NVIDIA's nvidia-ctk (tests/noble): the few commands that a box without a GPU is built with."""

import json
import sys
from pathlib import Path

DAEMON = Path("/etc/docker/daemon.json")


def main(words: list[str]) -> str | None:
    """Run a command. Returns None, or what went wrong."""
    command = [word for word in words if not word.startswith("-")]
    options = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
    if command == ["runtime", "configure"] and options.get("--runtime") == "docker":
        daemon = json.loads(DAEMON.read_text()) if DAEMON.exists() else {}
        if "--cdi.enabled" in options:
            daemon.setdefault("features", {})["cdi"] = True
        daemon.setdefault("runtimes", {})["nvidia"] = {"args": [], "path": "nvidia-container-runtime"}
        DAEMON.write_text(json.dumps(daemon, indent=4))
        return None
    if command == ["config"]:
        file = Path(options["--config-file"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# written by a stand-in for nvidia-ctk\n")
        return None
    if command in (["cdi", "generate"], ["system", "create-dev-char-symlinks"], ["system", "create-device-nodes"]):
        return "stand-in for nvidia-ctk: there is no driver"
    return f"stand-in for nvidia-ctk: does not know {' '.join(words)}"


sys.exit(main(sys.argv[1:]))
