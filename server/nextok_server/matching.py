"""What the engine knows of a constraint: a mask for each place, and the tokens that were taken.

Knows nothing of grammars, of the library that matches them, of the wire.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Protocol

from nextok_server.masks import Mask


@dataclass(frozen=True, slots=True)
class Form:
    """A form that a completion has to keep to, as it was asked for.

    Attributes:
        kind: `json_schema`, `regex`, `grammar` or `choices`, as on the wire.
        texts: The schema, the expression or the grammar; of choices, each.
    """

    kind: str
    texts: tuple[str, ...]


class Matcher(Protocol):
    """One completion on its way through a form.

    Attributes:
        complete: Whether the form is complete and nothing but the end may follow.
    """

    complete: bool

    def mask(self) -> Mask:
        """The tokens that may come next; the model's end tokens where the form may end.

        Raises:
            InvalidRequest: The form cannot be followed any further.
        """

    def take(self, token_id: int) -> None:
        """Takes a token in that the mask allows. Behind an end nothing but ends may come.

        Raises:
            InvalidRequest: The form cannot be followed any further.
        """

    def valid(self, token_ids: Many[int]) -> int:
        """How many tokens, from the first, may come next one after the other."""

    def copy(self) -> Matcher:
        """Another one that stands where this one does."""

    def rewind(self, count: int) -> None:
        """Takes the last tokens back, at most those that were taken."""


class Grammar(Protocol):
    """A form that was compiled.

    Attributes:
        form: As it was asked for.
        is_empty: Whether nothing but the empty text is of the form.
    """

    form: Form
    is_empty: bool

    def start(self) -> Matcher:
        """A completion's way through it, from the beginning."""
