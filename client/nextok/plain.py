"""Values as what JSON can hold.

Knows that our values have the names of the wire. Bytes become lists of integers, as in other
services that report tokens; what is absent becomes null; enums are their short names.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

from nextok.candidates import Candidates


def to_json(value: Any) -> Any:
    """Returns what json can write: objects, lists, numbers, strings, booleans and null."""
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, array):
        return value.tolist()
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, (tuple, list, Candidates)):
        return [to_json(item) for item in value]
    return {name: to_json(getattr(value, name)) for name in _names(type(value))}


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in dataclasses.fields(kind))
    return names
