"""Protobuf's wire format: numbers, and entries with their tags.

Knows nothing of messages. See https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# From so many on, a number takes two bytes and more.
_TWO_BYTES = 0x80
_ONE_BYTE = tuple(bytes((number,)) for number in range(_TWO_BYTES))


def varint(number: int) -> bytes:
    """A number that is not negative."""
    if number < _TWO_BYTES:
        return _ONE_BYTE[number]
    encoded = bytearray()
    while number >= _TWO_BYTES:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a value."""
    return varint(field << 3 | wire_type)


def entry(field: int, content: bytes) -> bytes:
    """A message, a text or bytes."""
    return b"".join((tag(field, LENGTH), varint(len(content)), content))


def floats(field: int, values: np.ndarray) -> bytes:
    """A repeated field of floats (N,)."""
    return entry(field, np.asarray(values, "<f4").tobytes())
