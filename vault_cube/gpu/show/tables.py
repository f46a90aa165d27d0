"""What the verbs show a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MARKS = {"ok": "ok", "warning": "WARNING", "fault": "FAULT", "not applicable": "n/a"}


def health(found: Mapping[str, Any]) -> str:
    """Bad findings first with what to do, then what is well; what is the same for several GPUs stands once."""
    if found["verdict"] == "not applicable":
        return f"not applicable here: {found['gpus']}"
    counts = ", ".join(f"{number} {verdict}" for verdict, number in reversed(found["counts"].items()))
    lines = [f"{MARKS[found['verdict']]}: {found['gpus']}   ({counts})"]
    if found.get("simulated"):
        lines.append("simulated: true — this was read from a test's library, not from NVIDIA's")
    groups = _grouped(found["checks"])
    width = max(len(check) for check, *_ in groups)
    places = max(len(_gpus(numbers)) for *_, numbers in groups)
    for verdict in ("fault", "warning", "ok", "not applicable"):
        for check, said, evidence, todo, numbers in groups:
            if said == verdict:
                lines.append(f"  {MARKS[said]:<8} {check:<{width}}  {_gpus(numbers):<{places}}  {evidence}".rstrip())
                if todo:
                    lines.append(f"  {'':<8} {'':<{width}}  {'':<{places}}  → {todo}")
    return "\n".join(lines)


def _grouped(checks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str, list[int]]]:
    found: dict[tuple[str, str, str, str], list[int]] = {}
    for one in checks:
        numbers = found.setdefault((one["check"], one["verdict"], one["evidence"], one.get("todo", "")), [])
        if "gpu" in one:
            numbers.append(one["gpu"])
    return [(*key, numbers) for key, numbers in found.items()]


def _gpus(numbers: Sequence[int]) -> str:
    """Numbers of GPUs, short: 0-3, or 0,2."""
    if not numbers:
        return "box"
    first, last = numbers[0], numbers[-1]
    whole = len(numbers) > 2 and list(numbers) == list(range(first, last + 1))
    return f"GPU {first}-{last}" if whole else "GPU " + ",".join(map(str, numbers))


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


def monitor(found: Mapping[str, Any]) -> str:
    """The last view."""
    from vault_cube.gpu.show.monitor import text

    return text(found)


def _pairs(index: int, gpus: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(index, other["index"]) for other in gpus]
