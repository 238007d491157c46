"""Protobuf's wire format: entries with their tags.

Knows nothing of messages. See https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import numpy as np

_LENGTH = 2


def _varint(number: int) -> bytes:
    """A number that is not negative."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def entry(field: int, content: bytes) -> bytes:
    """A message, a text or bytes."""
    return b"".join((_varint(field << 3 | _LENGTH), _varint(len(content)), content))


def floats(field: int, values: np.ndarray) -> bytes:
    """A repeated field of floats (N,)."""
    return entry(field, np.asarray(values, "<f4").tobytes())
