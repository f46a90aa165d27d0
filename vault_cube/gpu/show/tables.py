"""What the verbs show a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def detect(found: Mapping[str, Any]) -> str:
    """All fields, a block a GPU."""
    head = {name: value for name, value in found.items() if name != "devices"}
    lines = [*_fields(head, "")]
    for card in found["devices"]:
        lines += ["", f"GPU {card['index']}", *_fields({k: v for k, v in card.items() if k != "index"}, "  ")]
    return "\n".join(lines)


def _fields(fields: Mapping[str, Any], indent: str) -> list[str]:
    width = max((len(name) for name in fields), default=0)
    lines = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            shown = ", ".join(f"{key} {_shown(part)}" for key, part in value.items())
        elif isinstance(value, list):
            shown = "; ".join(map(_shown, value)) or "none"
        else:
            shown = str(value)
        lines.append(f"{indent}{name:<{width}}  {shown}")
    return lines


def _shown(value: Any) -> str:
    return " ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, Mapping) else str(value)


def topology(found: Mapping[str, Any]) -> str:
    """A matrix of links between GPUs as nvidia-smi topo has it, then where each sits and what NCCL will do."""
    if not found["gpus"]:
        return str(found["problem"])
    names = [f"GPU{one['index']}" for one in found["gpus"]]
    rows = [["", *names, "NUMA", "CPUs"]]
    for one in found["gpus"]:
        links = [found["links"].get(f"{min(pair)}-{max(pair)}", {}) for pair in _pairs(one["index"], found["gpus"])]
        cells = [link.get("path", "?") + ("*" if link.get("p2p") else "") if link else "X" for link in links]
        rows.append([f"GPU{one['index']}", *cells, str(one.get("numa_node", "-")), one.get("cpus", "-")])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", "* peer to peer   " + "   ".join(f"{name}: {text}" for name, text in found["legend"].items())]
    lines += [f"NCCL: {found['nccl']['transport']}; {found['nccl']['why']}"]
    return "\n".join([*lines, *([found["problem"]] if "problem" in found else [])])


def _pairs(index: int, gpus: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(index, other["index"]) for other in gpus]
