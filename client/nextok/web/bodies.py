"""The fields of a JSON body: each is taken out by name, with its type.

Knows types and how a wrong one is refused. Ranges are the nextok server's to check, but for what
it never gets to see.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from nextok.web.refusals import Refusal, bad_value

T = TypeVar("T")

_MAX_UINT32 = 2**32 - 1


class Body:
    """A JSON object whose fields are taken out one by one; `finish` refuses what is left.

    Args:
        data: The request's body.

    Raises:
        Refusal: It is no JSON object.
    """

    def __init__(self, data: bytes) -> None:
        try:
            fields = json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the body is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise Refusal(400, f"the body is {_kind(fields)}, expected an object")
        self._fields: dict[str, Any] = fields

    def take(self, name: str, read: Callable[[str, Any], T], default: T) -> T:
        """Returns a field's value; the default where it is absent or null."""
        value = self._fields.pop(name, None)
        return default if value is None else read(name, value)

    def finish(self) -> None:
        """Makes sure that nothing was left out of account.

        Raises:
            Refusal: A field is not known.
        """
        for name in self._fields:
            raise Refusal(400, f"{name} is not a field of this request", name)


def text(name: str, value: Any) -> str:
    """Text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise bad_value(name, f"has half of a surrogate pair at {error.start}") from None
    return value


def boolean(name: str, value: Any) -> bool:
    """Either of the two."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def number(name: str, value: Any) -> float:
    """Any finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, value, "a number")
    try:
        return float(value)
    except OverflowError:
        raise bad_value(name, "is larger than any number that is computed with") from None


def integer(name: str, value: Any) -> int:
    """A whole number, of any size."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, value, "a whole number")
    return value


def count(name: str, value: Any) -> int:
    """A whole number that the wire can hold."""
    return _within(name, integer(name, value), _MAX_UINT32)


def seed(name: str, value: Any) -> int:
    """A seed; a negative one stands for that number modulo 2**64."""
    found = integer(name, value)
    if not -(2**63) <= found < 2**64:
        raise bad_value(name, f"is {found}, the range is -2**63 to 2**64 - 1")
    return found % 2**64


def token_ids(name: str, value: Any) -> list[int]:
    """A list of ids."""
    if not isinstance(value, list):
        raise _wrong(name, value, "a list of token ids")
    return [
        _within(f"{name}[{index}]", integer(f"{name}[{index}]", item), _MAX_UINT32)
        for index, item in enumerate(value)
    ]


def texts(name: str, value: Any) -> list[str]:
    """One text, or a list of them."""
    if isinstance(value, list):
        return [text(f"{name}[{index}]", item) for index, item in enumerate(value)]
    return [text(name, value)]


def biases(name: str, value: Any) -> dict[int, float]:
    """An object from token ids to numbers."""
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object from token ids to numbers")
    found = {}
    for key, bias in value.items():
        if not key.isascii() or not key.isdecimal() or len(key) > 10:
            raise bad_value(name, f"has the key {key!r}, expected a token id")
        found[_within(name, int(key), _MAX_UINT32)] = number(f"{name}[{key}]", bias)
    return found


def prompt(name: str, value: Any) -> str | list[int]:
    """Text, or token ids."""
    return text(name, value) if isinstance(value, str) else token_ids(name, value)


def _within(name: str, value: int, last: int) -> int:
    if not 0 <= value <= last:
        raise bad_value(name, f"is {value}, the range is 0 to {last}")
    return value


def _wrong(name: str, value: Any, expected: str) -> Refusal:
    return bad_value(name, f"is {_kind(value)}, expected {expected}")


_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}


def _kind(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)[:40]
    return "null" if value is None else _NAMES[type(value)]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
