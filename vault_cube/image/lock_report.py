"""The report at the end of `make lock`: packages, changes, unexpected results, and the next command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from vault_cube.image import needs
from vault_cube.image.inputs import Inputs
from vault_cube.image.locks import contract
from vault_cube.image.locks.contract import Contract
from vault_cube.image.locks.resolve import Resolved
from vault_cube.image.workspace import ORDER, Workspace


def lines(space: Workspace, resolved: Resolved, expected: Contract | None) -> list[str]:
    """Report on locks that have just been written. expected: the target's contract. Returns the lines of the report."""
    layers = Counter(deb.layer for deb in resolved.packages.debs)
    environments = {name: len(wheels) for name, wheels in resolved.wheels.items()}
    files = {wheel.sha256 for wheels in resolved.wheels.values() for wheel in wheels}
    report = [
        *(f"moved: {line}" for line in resolved.moved or ["nothing"]),
        f"resolved: {len(resolved.packages.debs)} packages ({_counts({name: layers[name] for name in ORDER})})",
        f"resolved: {len(files)} wheels ({_counts(environments)}; a wheel in several environments counts once)",
    ]
    if expected:
        differences = contract.differences(expected, resolved.packages)
        report += [f"differs from the contract: {line}" for line in differences or ["nothing"]]
    needed = needs.of(space, Inputs.read(space))
    return [
        *report,
        f"to download: {needs.gigabytes(needed.download)} of {needs.gigabytes(needed.locked)}; the store has the rest",
        f"disk needed: {needs.gigabytes(needed.disk)} free, downloads included",
        f"next: make image TARGET={space.target}",
    ]


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())
