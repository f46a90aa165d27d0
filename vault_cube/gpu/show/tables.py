"""Readings as text for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vault_cube import terminal

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Facts, Topology


def detect(facts: Facts) -> str:
    """Show all fields, with one block per GPU."""
    blocks = [fields({name: value for name, value in facts.items() if name != "devices"})]
    for card in facts["devices"]:
        own = {name: value for name, value in card.items() if name != "index"}
        blocks += ["", f"GPU {card['index']}", fields(own, "  ")]
    return "\n".join(blocks)


def fields(document: Mapping[str, object], indent: str = "") -> str:
    """Show fields, one per line."""
    width = max((len(name) for name in document), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {_value(value)}" for name, value in document.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(map(_short, value)) or "none"
    return str(value)


def _short(value: object) -> str:
    return " ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, Mapping) else str(value)


def topology(matrix: Topology) -> str:
    """Show the paths between GPUs as `nvidia-smi topo --matrix` does, the place of each GPU, and NCCL's transport."""
    places = matrix["gpus"]
    if not places:
        return matrix["problem"]
    rows = []
    for place in places:
        cells = [_cell(matrix, place["index"], other["index"]) for other in places]
        rows.append([f"GPU{place['index']}", *cells, str(place.get("numa_node", "-")), place.get("cpus", "-")])
    lines = [terminal.text(terminal.grid(rows, ["", *(row[0] for row in rows), "NUMA", "CPUs"]))]
    lines += ["", "* peer to peer   " + "   ".join(f"{name}: {words}" for name, words in matrix["legend"].items())]
    lines += [f"NCCL: {matrix['nccl']['transport']}; {matrix['nccl']['why']}"]
    return "\n".join([*lines, *([matrix["problem"]] if "problem" in matrix else [])])


def _cell(matrix: Topology, index: int, other: int) -> str:
    link = matrix["links"].get(f"{min(index, other)}-{max(index, other)}")
    if link is None:
        return "X"
    return link.get("path", "?") + ("*" if link.get("p2p") else "")
