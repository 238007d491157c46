"""Protobuf's wire format by hand: what no protobuf library would write."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

Field = FieldDescriptor
_LENGTH_DELIMITED = (Field.TYPE_STRING, Field.TYPE_BYTES, Field.TYPE_MESSAGE)
_FORMATS = {Field.TYPE_FLOAT: (5, "<f"), Field.TYPE_DOUBLE: (1, "<d")}


def varint(value: int) -> bytes:
    """A number of 64 bits; negative ones as their two's complement."""
    value &= (1 << 64) - 1
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def field(descriptor: FieldDescriptor, value: Any) -> bytes:
    """One occurrence of a field: a number, or bytes where it holds text or a message."""
    number = descriptor.number << 3
    if descriptor.type in _LENGTH_DELIMITED:
        return varint(number | 2) + varint(len(value)) + value
    if descriptor.type in _FORMATS:
        wire_type, form = _FORMATS[descriptor.type]
        return varint(number | wire_type) + struct.pack(form, value)
    return varint(number) + varint(int(value))


def nested(path: Sequence[FieldDescriptor], data: bytes) -> bytes:
    """Fields of a message far inside another; appended to that one, they are merged into it."""
    for descriptor in reversed(path):
        data = field(descriptor, data)
    return data
