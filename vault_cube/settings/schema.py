"""The keys of the pillar, derived from the models, for error messages and for docs/pillar.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic.fields import FieldInfo

from vault_cube.settings.strict import Section, Unit

ANY_NAME, EACH = "<name>", "<n>"
"""Placeholders in a path: for any key of a mapping, and for any index of a list."""

SUFFIX_UNITS = {
    "_gb_s": "GB/s", "tokens_per_s": "tokens/s", "_s": "s", "seconds": "s", "minutes": "min",
    "_hours": "h", "_days": "d",
    "_mb": "MB", "_mib": "MiB", "_gib": "GiB", "_w": "W", "celsius": "°C", "_tflops": "TFLOP/s",
}  # fmt: skip
"""Units by the suffix of a key's name."""


@dataclass(frozen=True)
class Key:
    """One key of the pillar."""

    path: tuple[str, ...]
    model: str
    """Name of the model class that the key is a field of."""
    type: str
    unit: str
    limits: str
    description: str
    is_section: bool

    @property
    def name(self) -> str:
        """The path as error messages write it, such as `base:ssh:port`."""
        return ":".join(self.path)


def keys(model: type[Section], path: tuple[str, ...] = (), unit: str = "") -> Iterator[Key]:
    """List all keys below a model, each section before its keys.

    path: path of the model. unit: unit of the fields that have none of their own.
    """
    for name, field in model.model_fields.items():
        here = (*path, name)
        own_unit = _unit(name, field) or unit
        below = list(_sections(field.annotation))
        yield Key(
            here, model.__name__, _type(field.annotation), _shown_unit(field, own_unit), _limits(field),
            _description(field), bool(below),
        )  # fmt: skip
        for part, section in below:
            yield from keys(section, (*here, *part), own_unit)


def suggestion(model: type[Section], path: Sequence[str]) -> str | None:
    """Suggest a key for an unknown one: a similar name in the same section, or the same name in another section.

    path: the unknown key. Returns a path such as `base:ssh:port`; None if no key is similar.
    """
    import difflib

    known = list(keys(model))
    siblings = {key.path[-1] for key in known if _same_section(key.path[:-1], path[:-1])}
    # names such as window and window_s are similar, but too short for the ratio
    near = difflib.get_close_matches(path[-1], siblings, n=1, cutoff=0.7) or sorted(
        name for name in siblings if name.startswith(f"{path[-1]}_")
    )
    if near:
        return ":".join((*path[:-1], near[0]))
    elsewhere = [key for key in known if key.path[-1] == path[-1]]
    nearby = [key for key in elsewhere if key.path[0] == path[0]]
    same = nearby or elsewhere
    return same[0].name if len(same) == 1 else None


def _same_section(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return len(pattern) == len(path) and all(
        part in (given, ANY_NAME) or (part == EACH and given.isdigit())
        for part, given in zip(pattern, path, strict=True)
    )


def _unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Remove `Annotated` from an annotation. Returns the annotation and its metadata, flattened."""
    metadata: tuple[Any, ...] = ()
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = (*metadata, *more)
    flat: list[Any] = []
    for item in metadata:
        flat += item.metadata if isinstance(item, FieldInfo) else [item]
    return annotation, tuple(flat)


def _arms(annotation: Any) -> list[Any]:
    """Return the alternatives of a union without None, or the annotation itself if it is no union."""
    annotation, _ = _unwrapped(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return [arm for arm in get_args(annotation) if arm is not NoneType]
    return [annotation]


def _sections(annotation: Any) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    """List the models in an annotation, each with its path relative to the field."""
    for arm in _arms(annotation):
        plain, _ = _unwrapped(arm)
        if isinstance(plain, type) and issubclass(plain, Section):
            yield (), plain
        elif get_origin(plain) is list:
            yield from (((EACH, *part), section) for part, section in _sections(get_args(plain)[0]))
        elif get_origin(plain) is dict:
            yield from (((ANY_NAME, *part), section) for part, section in _sections(get_args(plain)[1]))


SIMPLE = {str: "text", int: "integer", float: "number", bool: "true or false", UUID: "UUID"}


def _type(annotation: Any) -> str:
    """Describe an annotation, such as `list of text` or `integer or null`."""
    plain, _ = _unwrapped(annotation)
    origin, arguments = get_origin(plain), get_args(plain)
    if origin in (Union, UnionType):
        return " or ".join("null" if arm is NoneType else _type(arm) for arm in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        names = f" ({', '.join(get_args(arguments[0]))})" if get_origin(arguments[0]) is Literal else ""
        return f"mapping{names} to {_type(arguments[1])}"
    if isinstance(plain, type) and issubclass(plain, Section):
        return "section"
    return SIMPLE[plain]


def _metadata(field: FieldInfo) -> list[Any]:
    """List the constraints of a field: its own metadata, and that of the types in `| None`, `list` or `dict`."""
    constraints = list(field.metadata)
    todo = [field.annotation]
    while todo:
        annotation = todo.pop()
        plain, metadata = _unwrapped(annotation)
        constraints += metadata
        if get_origin(plain) in (Union, UnionType, list):
            todo += get_args(plain)
        elif get_origin(plain) is dict:
            todo.append(get_args(plain)[1])
    return constraints


def _limits(field: FieldInfo) -> str:
    """Describe the allowed range or pattern of a field's values."""
    least, most, rest = "", "", []
    for item in _metadata(field):
        for attribute, value in _constraints(item).items():
            if attribute == "ge":
                least = f"{value} ≤ "
            elif attribute == "gt":
                least = f"{value} < "
            elif attribute == "le":
                most = f" ≤ {value}"
            elif attribute == "lt":
                most = f" < {value}"
            elif attribute == "min_length":
                rest.append("not empty")
            elif attribute == "pattern":
                rest.append(f"`{value}`")
    if least or most:
        rest.insert(0, f"{least}x{most}")
    return ", ".join(dict.fromkeys(rest))


def _constraints(item: Any) -> Mapping[str, Any]:
    names = ("ge", "gt", "le", "lt", "min_length", "pattern")
    return {name: value for name in names if (value := getattr(item, name, None)) is not None}


def _unit(name: str, field: FieldInfo) -> str:
    given = next((item.name for item in _metadata(field) if isinstance(item, Unit)), "")
    return given or next((unit for suffix, unit in SUFFIX_UNITS.items() if name.endswith(suffix)), "")


def _shown_unit(field: FieldInfo, unit: str) -> str:
    """Return the unit of a numeric field, "" for others; the unit of a section applies to its fields."""
    return unit if re.search(r"\b(integer|number)\b", _type(field.annotation)) else ""


def _description(field: FieldInfo) -> str:
    """Return a field's description, or else the first line of its model's docstring."""
    if field.description:
        return field.description
    sections = [section for _, section in _sections(field.annotation)]
    return (sections[0].__doc__ or "").strip().splitlines()[0].rstrip(".") if sections else ""
