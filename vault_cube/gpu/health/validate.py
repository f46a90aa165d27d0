"""Are the GPUs what the pillar says? The checks of gpu.health that hold a GPU against an expectation, and no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vault_cube.gpu.health import box, finding, heat, judge, links, look, storage, use
from vault_cube.gpu.health.finding import Card, Finding, Seen, busy, lacking, ok
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.host import Host
from vault_cube.verdicts import FAILED, NOT_APPLICABLE, PASSED, Verdict


def idle_temperature(card: Card, seen: Seen) -> Finding:
    """Is an idle GPU as cool as the pillar says?"""
    now, below = card.get("temperature_c"), seen.pillar["driver"]["gates"]["idle_celsius"]
    if now is None:
        return lacking("the driver does not tell")
    if busy(card):
        return lacking(f"{now} °C, busy")
    said = f"{now} °C (driver:gates:idle_celsius {below})"
    return ok(said) if now < below else Finding(finding.WARNING, said, heat.COOL)


BOX_CHECKS = (box.driver_answers, box.count, box.model, box.memory, box.versions_agree, box.kernel_modules)
CARD_CHECKS = (
    links.pcie_slot, links.pcie_link, heat.power_cap, idle_temperature, storage.ecc_mode, use.persistence,
    use.compute_mode, use.mig,
)  # fmt: skip
STATUS = {
    finding.OK: PASSED,
    finding.WARNING: FAILED,
    finding.FAULT: FAILED,
    finding.NOT_APPLICABLE: NOT_APPLICABLE,
}


def verdicts(session: Session, pillar: Mapping[str, Any], machine: Host | None = None, *, load: bool) -> list[Verdict]:
    """A verdict an expectation, all GPUs together. pillar, load: as gpu.health has them."""
    seen = look(session, pillar, machine or Host(), window_s=None, load=load)
    return list(_merged(judge(seen, BOX_CHECKS, CARD_CHECKS)))


def _merged(findings: Iterator[dict[str, Any]]) -> Iterator[Verdict]:
    """One verdict a check: the worst of the GPUs, with each GPU's evidence where they differ."""
    by_check: dict[str, list[dict[str, Any]]] = {}
    for one in findings:
        by_check.setdefault(one["check"], []).append(one)
    for check, found in by_check.items():
        worst = max((one["verdict"] for one in found), key=finding.ORDER.index)
        said: dict[str, list[str]] = {}
        for one in found:
            said.setdefault(one["evidence"], []).append(str(one.get("gpu", "")))
        evidence = "; ".join(text if len(said) == 1 else f"GPU {','.join(gpus)}: {text}" for text, gpus in said.items())
        yield Verdict(check, STATUS[worst], evidence)
