"""Checks of layer 4: each framework can be imported, detects the GPUs, and computes a correct result."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vault_cube.box import Place
from vault_cube.errors import VaultCubeError
from vault_cube.process import command, last_line
from vault_cube.python_env import environments
from vault_cube.verdicts import Check, Verdict, fault, not_applicable, ok, verdict

REPAIR = "`salt-call --local state.apply frameworks`"
# one program per framework, run by the Python of the framework's environment
PROGRAMS = Path(__file__).parents[2] / "workloads/compute"


def files_are_intact(place: Place) -> Iterator[Verdict]:
    """Check that every file of each environment has the content that its package was installed with."""
    if not place.settings.frameworks.environments:
        yield not_applicable("this target has no environments (pillar frameworks:environments)")
    for name in place.settings.frameworks.environments:
        folder = Path(place.settings.frameworks.folder) / name
        yield replace(_intact(folder), check=f"{name} is intact")


def _intact(folder: Path) -> Verdict:
    if not (folder / "pyvenv.cfg").is_file():
        return fault(f"{folder} is missing", REPAIR)
    try:
        damage = environments.damage(folder)
    except VaultCubeError as err:
        return fault(str(err))
    wrong = [*damage.missing, *damage.altered, *damage.strays]
    if wrong:
        return fault(f"{len(wrong)} file(s) differ, first {wrong[0]}", REPAIR, "RECORD of each package")
    return ok(str(folder), "RECORD of each package")


def frameworks_compute(place: Place) -> Iterator[Verdict]:
    """Run a program in each environment that imports the framework, counts its devices and computes on each of them.

    A tree has no running driver, so there the programs compute on the CPU. That proves nothing about the GPUs.
    """
    for name, framework in place.settings.frameworks.checks.items():
        yield from _computes(place, name, framework)


def _computes(place: Place, name: str, framework: str) -> Iterator[Verdict]:
    check = f"{name} computes"
    frameworks = place.settings.frameworks
    gates = frameworks.gates
    gpus = gates.gpus
    program = PROGRAMS / f"{framework}.py"
    if not program.is_file():
        yield fault(f"no program for {framework}", f"name one of {_programs()} in frameworks:checks", check=check)
        return
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", "TF_CPP_MIN_LOG_LEVEL": "3"}  # noqa: S108
    environ |= frameworks.vllm.settings
    if gpus and not place.live:
        yield not_applicable("needs a running system with its GPUs", check=check)
        check, gpus = f"{name} computes on the CPU", 0
        environ["CUDA_VISIBLE_DEVICES"] = ""
    elif gpus and not place.gpus:
        yield not_applicable("the driver shows no GPU: see layer.check driver", check=check)
        return
    python = Path(frameworks.folder) / name / "bin/python"
    ran = command([str(python), "-I", "-B", str(program)], gates.import_s, env=environ)
    threshold = f"{gpus or 'no'} GPU(s) (frameworks:gates:gpus), {gates.import_s} s (frameworks:gates:import_s)"
    try:
        result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        evidence = last_line(ran.stderr) or f"exit code {ran.returncode}"
        yield fault(evidence, threshold=threshold, check=check)
        return
    good = ran.returncode == 0 and result["gpus"] == gpus and result["right"] == max(gpus, 1)
    evidence = f"{result['version']}: correct on {result['right']} device(s), {result['gpus']} GPU(s)"
    yield verdict(good, f"{evidence}; {result['note']}" if "note" in result else evidence, threshold, check=check)


def commands_are_on_path(place: Place) -> Iterator[Verdict]:
    """Check that each command of the pillar exists in its environment and on PATH."""
    frameworks = place.settings.frameworks
    for name, words in frameworks.commands.items():
        program = Path(frameworks.folder) / words[0] / "bin" / words[1]
        good = os.access(program, os.X_OK) and os.access(f"/usr/local/bin/{name}", os.X_OK)
        yield verdict(good, str(program), "frameworks:commands", check=f"command {name}")


def vllm_service(place: Place) -> Iterator[Verdict]:
    """Check that the vLLM service is installed and, on a live box where it is enabled, that each replica answers."""
    vllm = place.settings.frameworks.vllm
    if not vllm.environment:
        yield not_applicable("this target has no vLLM (pillar frameworks:vllm:environment)")
        return
    unit = Path("/etc/systemd/system/vault-cube-vllm@.service")
    yield verdict(unit.is_file(), str(unit), "frameworks:vllm")
    for n in range(vllm.replicas):
        check = f"vLLM replica {n} answers"
        if not place.live:
            yield not_applicable("needs a running system", check=check)
        elif not vllm.enabled:
            yield not_applicable("the service is disabled (pillar frameworks:vllm:enabled)", check=check)
        else:
            address = f"http://{vllm.host}:{vllm.port + n}/health"
            yield verdict(_answers(address), address, "HTTP 200", check=check)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 the schema allows loopback addresses only
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _programs() -> str:
    return ", ".join(sorted(file.stem for file in PROGRAMS.glob("*.py")))


CHECKS: tuple[Check, ...] = (files_are_intact, frameworks_compute, commands_are_on_path, vllm_service)
