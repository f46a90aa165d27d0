"""Are the GPUs as the pillar describes them? Only the checks of gpu.health that compare a GPU with the pillar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vault_cube.gpu.health import box, heat, judge, links, look, report, storage, use
from vault_cube.gpu.health.seen import Seen, busy
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.host import Host
from vault_cube.settings import Settings
from vault_cube.verdicts import Report, Verdict, not_applicable, ok, warning

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card


def idle_temperature(card: Card, seen: Seen) -> Verdict:
    """Is an idle GPU below the pillar's temperature?"""
    now, below = card.get("temperature_c"), seen.settings.driver.gates.idle_celsius
    if now is None:
        return not_applicable("the driver does not report it")
    if busy(card):
        return not_applicable(f"{now} °C, busy")
    evidence = f"{now} °C (driver:gates:idle_celsius {below})"
    return ok(evidence) if now < below else warning(evidence, heat.COOL)


BOX_CHECKS = (box.driver_answers, box.count, box.model, box.memory, box.versions_agree, box.kernel_modules)
CARD_CHECKS = (
    links.pcie_slot, links.pcie_link, heat.power_cap, idle_temperature, storage.ecc_mode, use.persistence,
    use.compute_mode, use.mig,
)  # fmt: skip


def validate(session: Session, settings: Settings, machine: Host | None = None, *, load: bool) -> Report:
    """Compare the GPUs with the pillar. load: as for `health`."""
    seen = look(session, settings, machine or Host(), window_s=None, load=load)
    return report(seen, list(judge(seen, BOX_CHECKS, CARD_CHECKS)))
