"""Where a graph says that its tensors are, besides in itself.

Knows: protobuf's wire format and the few fields of onnx.proto that lead to a tensor's location:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Does not know: what the graph computes.

ONNX Runtime opens these files by name; a graph that named one outside of its folder, or one whose
hash nobody checked, would have it read. So the names are looked at before ONNX Runtime is.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MOST_DEPTH = 64

# Of each message, which fields hold which messages.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2


def locations(path: Path) -> set[str]:
    """The names of all files that a graph's tensors are said to be in.

    Raises:
        OSError: The graph cannot be read.
        ValueError: It is not a graph.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return set(_walk(data, 0, len(data), "model", 0))


def _walk(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        raise ValueError(f"the graph is nested more than {_MOST_DEPTH} deep")
    for field, start, stop in _messages(data, at, end):
        below = _FIELDS[kind].get(field)
        if below == "entry":
            texts = {number: data[a:b] for number, a, b in _messages(data, start, stop)}
            if texts.get(_KEY) == b"location":
                yield texts.get(_VALUE, b"").decode(errors="replace")
        elif below is not None:
            yield from _walk(data, start, stop, below, depth + 1)


def _messages(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field that has a length."""
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _BYTES:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise ValueError("a field is longer than what holds it")
            yield tag >> 3, at, at + length
            at += length
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"a field has wire type {kind}")
    if at != end:
        raise ValueError("a field is longer than what holds it")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")
