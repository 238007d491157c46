"""A text's tokens: frozen values, named as on the wire.

Every class but `TextTokens` holds the fields of one message of nextok.v1, under their names and
in their order. Knows no gRPC and no protobuf; how messages become values is in `replies`.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Final

from nextok import notebook

# Names a type that the fields called `bytes` would hide.
_Bytes = builtins.bytes


@dataclass(frozen=True, slots=True)
class TextToken:
    """A token of a text, with the place that it takes in it.

    Attributes:
        id: Id in the vocabulary.
        token: Its text. Bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: The tokenizer's own bytes for it.
        byte_start: First byte of the token in the text's UTF-8 form.
        byte_end: One past its last byte.
        char_start: First character (code point) that the token has a byte of.
        char_end: One past the last character that it has a byte of.
    """

    id: int
    token: str
    bytes: _Bytes
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int


class TextTokens(tuple[TextToken, ...]):
    """A text's tokens, in order: a tuple that a notebook shows as a table."""

    __slots__ = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple([token.id for token in self])

    def _repr_html_(self) -> str:
        return notebook.token_table(self)


@dataclass(frozen=True, slots=True)
class Detokenized:
    """What tokens spell.

    Attributes:
        text: The text. Bytes that are not UTF-8 show as U+FFFD.
        bytes: The tokens' bytes, as they are.
        tokens: Each token with its place in `bytes`; characters are those of `text`.
    """

    text: str
    bytes: _Bytes
    tokens: TextTokens


NO_TOKENS: Final = TextTokens()
