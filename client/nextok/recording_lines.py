"""The lines of a recording: JSON objects whose fields are checked as they are taken.

Knows JSON and how what is wrong is named. Does not know what a recording holds.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

_MAX_UINT32: Final = 2**32 - 1
_SHA256_DIGITS: Final = 64
_KINDS: Final = {
    int: "an integer",
    float: "a floating-point number",
    str: "a string",
    dict: "an object",
}


class RecordingError(ValueError):
    """A recording that cannot be read.

    Attributes:
        line: Which line of it, from 1.
        field: Which field of the line; "" for the line itself.
    """

    def __init__(self, line: int, field: str, problem: str) -> None:
        super().__init__(line, field, problem)
        self.line = line
        self.field = field
        self._problem = problem

    def __str__(self) -> str:
        return f"line {self.line}: {self.field + ' ' if self.field else ''}{self._problem}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or an object in it.

    Attributes:
        number: Of the line, from 1.
        fields: Those that were not taken yet.
        path: What stands before their names in errors.
    """

    number: int
    fields: dict[str, Any]
    path: str = ""

    def take(self, name: str, kind: type) -> Any:
        """Takes a field of a type.

        Raises:
            RecordingError: It is not there, or of another type; likewise below.
        """
        if name not in self.fields:
            self.refuse(name, "is missing")
        value = self.fields.pop(name)
        # To Python, a truth value is an int.
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(name, f"is {_short(value)}, and has to be {_KINDS[kind]}")
        return value

    def take_uint32(self, name: str) -> int:
        """Takes an integer from 0 to 2**32 - 1."""
        value: int = self.take(name, int)
        if not 0 <= value <= _MAX_UINT32:
            self.refuse(name, f"is {_short(value)}, the range is 0 to {_MAX_UINT32}")
        return value

    def take_float32(self, name: str) -> float:
        """Takes a finite number that a float32 holds exactly."""
        value: float = self.take(name, float)
        if not math.isfinite(value) or not _is_float32(value):
            self.refuse(name, f"is {value!r}, which is no finite float32")
        return value

    def take_sha256(self, name: str) -> str:
        """Takes 64 hexadecimal digits."""
        value: str = self.take(name, str)
        if len(value) != _SHA256_DIGITS or set(value) - set("0123456789abcdef"):
            self.refuse(name, f"is {_short(value)}, and has to be 64 hexadecimal digits")
        return value

    def take_object(self, name: str) -> Line:
        """Takes an object, whose fields are taken from what this returns."""
        return Line(self.number, self.take(name, dict), f"{self.path}{name}.")

    def is_null(self, name: str) -> bool:
        """Takes a field that is null; tells whether it was."""
        if name not in self.fields or self.fields[name] is not None:
            return False
        del self.fields[name]
        return True

    def end(self) -> None:
        """Makes sure that nothing is left."""
        for name in self.fields:
            self.refuse(name, "is unknown")

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Raises the error that says what is wrong with a field."""
        raise RecordingError(self.number, self.path + name, problem)


def read_lines(data: bytes) -> Iterator[Line]:
    """Yields the lines.

    Raises:
        RecordingError: One is not a JSON object.
    """
    for number, text in enumerate(data.splitlines(), 1):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordingError(number, "", f"is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise RecordingError(number, "", f"is {_short(fields)}, and has to be an object")
        yield Line(number, fields)


def _is_float32(value: float) -> bool:
    try:
        return bool(struct.unpack("<f", struct.pack("<f", value))[0] == value)
    except OverflowError:
        return False


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
