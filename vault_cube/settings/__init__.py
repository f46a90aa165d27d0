"""The pillar's schema: one model per section, checked before anything runs.

`check` validates a pillar and returns `Settings`, which the image builder uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any

from pydantic import ValidationError, model_validator

from vault_cube.pillar_files import PillarFile, shown
from vault_cube.redact import redacted
from vault_cube.settings import legacy_zones
from vault_cube.settings.base import Base
from vault_cube.settings.benchmark import Benchmark
from vault_cube.settings.driver import Driver
from vault_cube.settings.fleet import Fleet
from vault_cube.settings.frameworks import Frameworks
from vault_cube.settings.gpu import Gpu
from vault_cube.settings.image import Archive, Image, Target
from vault_cube.settings.runtime import Runtime
from vault_cube.settings.schema import suggestion
from vault_cube.settings.strict import Section
from vault_cube.settings.validation import Validation

__all__ = ["PillarError", "Settings", "check", "of_minion"]


class Settings(Section):
    """All sections of the pillar."""

    target: Target
    archive: Archive
    image: Image
    base: Base
    driver: Driver
    runtime: Runtime
    frameworks: Frameworks
    validation: Validation
    gpu: Gpu
    benchmark: Benchmark
    fleet: Fleet

    @model_validator(mode="after")
    def _no_two_listen_on_a_port(self) -> Settings:
        vllm, monitoring = self.frameworks.vllm, self.validation.monitoring
        listeners = {"base:ssh:port": self.base.ssh.port, "validation:monitoring:port": monitoring.port}
        if monitoring.prometheus.enabled:
            listeners["validation:monitoring:prometheus:port"] = monitoring.prometheus.port
        if monitoring.dcgm.image:
            listeners["validation:monitoring:dcgm:port"] = monitoring.dcgm.port
        taken: dict[int, str] = {}
        if vllm.environment:
            replicas = "a port of vLLM (frameworks:vllm:port, one port per replica)"
            taken = dict.fromkeys(range(vllm.port, vllm.port + vllm.replicas), replicas)
        for key, port in listeners.items():
            if port in taken:
                raise ValueError(f"{key} {port} is also {taken[port]}: change one of them")
            taken[port] = key
        return self

    @model_validator(mode="after")
    def _target_has_the_time_zone(self) -> Settings:
        zone, codename = self.base.timezone, self.target.codename
        divided = codename not in legacy_zones.UNDIVIDED and legacy_zones.PACKAGE not in self.base.packages
        if divided and zone in legacy_zones.PRESENT:
            raise ValueError(
                f"base:timezone {zone} is an old name, which {codename}'s tzdata lacks: "
                f"use {legacy_zones.PRESENT[zone]}, or add {legacy_zones.PACKAGE} to base:packages"
            )
        return self

    @model_validator(mode="after")
    def _held_packages_are_installed(self) -> Settings:
        # apt-mark hold fails with status 100 for a package that is not in the build's local repository
        installed = {*self.base.packages, *self.driver.packages}
        if missing := [name for name in self.driver.held if name not in installed]:
            raise ValueError(
                f"driver:held names {', '.join(missing)}, which is in neither driver:packages nor base:packages: "
                "add it there, or do not hold it"
            )
        return self


class PillarError(ValueError):
    """The pillar does not match the schema. The message has one line per problem: file, line, key, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


def check(pillar: Mapping[str, Any], files: Sequence[Path | PillarFile] = (), target: str | None = None) -> Settings:
    """Check a merged pillar against the schema.

    pillar: the merged pillar, without Salt's own keys.
    files: the files it was merged from, in merge order; errors name the file and line that set the value.
    target: the requested target, which is the name of its file; None: target:name is not compared with it.
    Returns the settings. Raises PillarError.
    """
    try:
        settings = Settings.model_validate(dict(pillar))
    except ValidationError as err:
        read = _read(files)
        lines = []
        for problem in err.errors(include_url=False):
            key = [str(part) for part in (*problem["loc"], *problem.get("ctx", {}).get("below", ()))]
            # for a missing key, name the file that sets the rest of its section
            where = _origin(key[:-1] if problem["type"] == "missing" else key, read)
            # a rule about several sections has no key of its own; its message names theirs
            lines.append(": ".join(filter(None, (where, ":".join(key), _sentence(problem, key)))))
        raise PillarError("\n".join(lines)) from None
    if target is not None and settings.target.name != target:
        raise PillarError(
            f"{_origin(['target', 'name'], _read(files))}: target:name: must be the name of the target's file, "
            f"{target}, found {shortened.repr(settings.target.name)}"
        )
    return settings


def of_minion(pillar: Mapping[str, Any]) -> Settings:
    """Return the settings in a minion's pillar, `__pillar__`. Raises PillarError, also for errors that Salt stored."""
    if errors := pillar.get("_errors"):
        raise PillarError("; ".join(errors))
    return check(pillar)


def _read(files: Sequence[Path | PillarFile]) -> list[PillarFile]:
    return [file if isinstance(file, PillarFile) else PillarFile.plain(file) for file in files]


shortened = Repr()
shortened.maxstring = shortened.maxother = 80


def _sentence(problem: Any, key: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        similar = suggestion(Settings, key)
        return f"no such key; did you mean {similar}?" if similar else "no such key; docs/pillar.md lists all keys"
    if problem["type"] == "missing":
        return "this key is missing: set it"
    text = str(problem["msg"]).removeprefix("Value error, ")
    # a rule about several keys has no single value to show, and a secret must not be shown
    if isinstance(problem["input"], Mapping) or problem["type"] == "secret":
        return text
    return f"{text[0].lower()}{text[1:]}, found {shortened.repr(problem['input'])}"


def _origin(key: list[str], files: Sequence[PillarFile]) -> str:
    """Return file and line that set a key, or the longest part of its path; the last file in merge order wins."""
    best, depth = (shown(files[0].path) if files else "pillar"), 0
    for file in files:
        parts, line = file.find(key)
        if parts and parts >= depth:
            best, depth = shown(file.path) + (f": line {line}" if line else ""), parts
    return best
