"""Try the drivers that the pillar names, one after the other, until one comes up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# loaded in this order, unloaded in the other; the first that is in use keeps the rest
MODULES = ("nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm")
SECONDS = {"apt-get": 1800, "nvidia-smi": 120}


@dataclass(frozen=True)
class Step:
    """One command and what came of it."""

    does: str
    command: str
    good: bool
    said: str


Runner = Callable[[Sequence[str]], tuple[int, str]]


def run(words: Sequence[str]) -> tuple[int, str]:
    """Run a command: (exit status, the last line that it printed)."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        ran = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=SECONDS.get(words[0], 300), env=environ
        )
    except FileNotFoundError:
        return 127, f"{words[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 124, f"{words[0]} gave no answer in {SECONDS.get(words[0], 300)} s"
    lines = (ran.stdout + ran.stderr).strip().splitlines()
    return ran.returncode, lines[-1][:300] if lines else ""


def fallback(driver: Mapping[str, Any], *, dry: bool, runner: Runner = run) -> dict[str, Any]:
    """Leave a driver that works alone; else purge it and try the pillar's fallbacks in order.

    driver: the pillar section `driver`. dry: tell what would be tried, and run nothing that changes the box.
    Returns good, branch (the one that works, or nothing), steps (does, command, good, said) and next, a sentence.
    """
    steps: list[Step] = []
    if driver["provider"] == "none":
        return _result(
            steps, False, None, "this target has no driver (pillar driver:provider): there is nothing to try"
        )
    if _works(driver, steps, runner):
        return _result(steps, True, driver["branch"], "the driver works: nothing was done")
    if not driver["fallbacks"]:
        return _result(steps, False, None, "the driver does not come up, and driver:fallbacks names no other")
    if dry:
        names = ", ".join(other["branch"] for other in driver["fallbacks"])
        return _result(steps, False, None, f"the driver does not come up: {names} would be tried, in this order")
    installed = list(driver["packages"])
    kernel = [name for name in driver["held"] if name not in installed]
    for other in driver["fallbacks"]:
        if _replace(installed, other["packages"], kernel, steps, runner):
            _reload(steps, runner)
            if _works(driver, steps, runner):
                keys = "driver:branch and driver:packages in pillar/local.sls"
                return _result(
                    steps, True, other["branch"], f"driver {other['branch']} works: make it the choice, {keys}"
                )
            installed = list(other["packages"])
    return _result(
        steps, False, None, "no driver came up: see `journalctl -k -g NVRM`, then docs/demo-box-known-issues.md"
    )


def _do(does: str, words: Sequence[str], steps: list[Step], runner: Runner) -> bool:
    status, said = runner(words)
    steps.append(Step(does, " ".join(words), status == 0, said))
    return status == 0


def _works(driver: Mapping[str, Any], steps: list[Step], runner: Runner) -> bool:
    """As many GPUs answer as the pillar asks for."""
    words = ["nvidia-smi", "--query-gpu=count", "--format=csv,noheader,nounits"]
    status, said = runner(words)
    good = status == 0 and said.strip() == str(driver["gates"]["gpus"])
    steps.append(Step("ask every GPU", " ".join(words), good, said))
    return good


def _replace(old: Sequence[str], new: Sequence[str], kernel: Sequence[str], steps: list[Step], runner: Runner) -> bool:
    # what the other branch needs is fetched before the first package goes: without a network nothing is lost
    fetch = ["apt-get", "install", "-y", "--download-only", "--no-install-recommends", *new]
    if not _do("fetch the next driver", fetch, steps, runner):
        return False
    _do("release the driver that failed", ["apt-mark", "unhold", *old], steps, runner)
    _do("purge it", ["apt-get", "purge", "-y", *old], steps, runner)
    good = _do("install the next driver", ["apt-get", "install", "-y", "--no-install-recommends", *new], steps, runner)
    return _do("hold it with its kernel", ["apt-mark", "hold", *kernel, *new], steps, runner) and good


def _reload(steps: list[Step], runner: Runner) -> None:
    _do("stop what keeps the module", ["systemctl", "stop", "nvidia-persistenced.service"], steps, runner)
    _do("unload the old module", ["modprobe", "--remove", *reversed(MODULES)], steps, runner)
    _do("load the new module", ["modprobe", "nvidia"], steps, runner)
    _do("load unified memory", ["modprobe", "nvidia_uvm"], steps, runner)
    _do("keep it loaded", ["systemctl", "start", "nvidia-persistenced.service"], steps, runner)


def _result(steps: Sequence[Step], good: bool, branch: str | None, advice: str) -> dict[str, Any]:
    return {"good": good, "branch": branch, "steps": [asdict(step) for step in steps], "next": advice}
