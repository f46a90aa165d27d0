"""Checks of layer 4: each framework can be imported, detects the GPUs, and computes a correct result."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vault_cube.box import Place, command, last_line
from vault_cube.errors import VaultCubeError
from vault_cube.python_env import environments
from vault_cube.verdicts import Verdict, not_applicable, verdict

# one program per framework, run by the Python of the framework's environment
PROGRAMS = Path(__file__).parents[2] / "workloads/compute"


def cases(place: Place) -> Iterator[Verdict]:
    """Run all checks of the layer."""
    frameworks = place.pillar["frameworks"]
    for name in frameworks["environments"]:
        yield intact(place, name)
    for name, framework in frameworks["checks"].items():
        yield from computes(place, name, framework)
    for name, words in frameworks["commands"].items():
        program = Path(frameworks["folder"]) / words[0] / "bin" / words[1]
        good = os.access(program, os.X_OK) and os.access(f"/usr/local/bin/{name}", os.X_OK)
        yield verdict(f"command {name}", good, str(program), "frameworks:commands")
    if frameworks["vllm"]["environment"]:
        yield from service(place)
    if not frameworks["environments"]:
        yield not_applicable("environments", "this target has none (pillar frameworks:environments)")


def intact(place: Place, name: str) -> Verdict:
    """Check that every file of an environment has the content that its package was installed with."""
    folder = Path(place.pillar["frameworks"]["folder"]) / name
    if not (folder / "pyvenv.cfg").is_file():
        return verdict(f"{name} is intact", False, f"{folder} is missing: run state.apply frameworks")
    try:
        damage = environments.damage(folder)
    except VaultCubeError as err:
        return verdict(f"{name} is intact", False, str(err))
    wrong = [*damage.missing, *damage.altered, *damage.strays]
    evidence = f"{len(wrong)} file(s) differ, first {wrong[0]}: run state.apply frameworks" if wrong else str(folder)
    return verdict(f"{name} is intact", not wrong, evidence, "RECORD of each package")


def computes(place: Place, name: str, framework: str) -> Iterator[Verdict]:
    """Run a program that imports the framework, counts its devices and computes on each of them.

    A tree has no running driver, so there the program computes on the CPU. That proves nothing about the GPUs.
    """
    case = f"{name} computes"
    frameworks = place.pillar["frameworks"]
    gates = frameworks["gates"]
    gpus = gates["gpus"]
    program = PROGRAMS / f"{framework}.py"
    if not program.is_file():
        yield verdict(case, False, f"no program for {framework}: name one of {_programs()} in frameworks:checks")
        return
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", "TF_CPP_MIN_LOG_LEVEL": "3"}  # noqa: S108
    environ |= frameworks["vllm"]["settings"]
    if gpus and not place.live:
        yield not_applicable(case, "needs a running system with its GPUs")
        case, gpus = f"{name} computes on the CPU", 0
        environ["CUDA_VISIBLE_DEVICES"] = ""
    elif gpus and not place.gpus:
        yield not_applicable(case, "the driver shows no GPU: see layer.check driver")
        return
    python = Path(frameworks["folder"]) / name / "bin/python"
    ran = command([str(python), "-I", "-B", str(program)], gates["import_s"], env=environ)
    threshold = f"{gpus or 'no'} GPU(s) (frameworks:gates:gpus), {gates['import_s']} s (frameworks:gates:import_s)"
    try:
        result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        yield verdict(case, False, last_line(ran.stderr) or f"exit code {ran.returncode}", threshold)
        return
    good = ran.returncode == 0 and result["gpus"] == gpus and result["right"] == max(gpus, 1)
    evidence = f"{result['version']}: correct on {result['right']} device(s), {result['gpus']} GPU(s)"
    yield verdict(case, good, f"{evidence}; {result['note']}" if "note" in result else evidence, threshold)


def service(place: Place) -> Iterator[Verdict]:
    """Check that the vLLM service is installed and, on a live box where it is enabled, that each replica answers."""
    vllm = place.pillar["frameworks"]["vllm"]
    unit = Path("/etc/systemd/system/vault-cube-vllm@.service")
    yield verdict("vLLM service is installed", unit.is_file(), str(unit), "frameworks:vllm")
    for n in range(vllm["replicas"]):
        case = f"vLLM replica {n} answers"
        if not place.live:
            yield not_applicable(case, "needs a running system")
        elif not vllm["enabled"]:
            yield not_applicable(case, "the service is disabled (pillar frameworks:vllm:enabled)")
        else:
            address = f"http://{vllm['host']}:{vllm['port'] + n}/health"
            yield verdict(case, _answers(address), address, "HTTP 200")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 the schema allows loopback addresses only
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _programs() -> str:
    return ", ".join(sorted(file.stem for file in PROGRAMS.glob("*.py")))
