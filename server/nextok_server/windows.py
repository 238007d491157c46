"""How a text that is longer than the context is scored: window by window.

Knows: lengths. Does not know: tokens, the model.

Each token is scored once. A window scores the next tokens, `stride` of them, and ends with the last
one; in front of them it has as many as fit. The first window scores all that it holds: there,
every token has all that is before it. So a token sees at least `context` less `stride` tokens, or
all there are. With the stride as long as the context these are the windows of lm-evaluation-harness
(`lm_eval.utils.get_rolling_token_windows`), for texts and for continuations alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text, by places in it.

    Attributes:
        start: The first token that the model sees.
        first: The first token that is scored.
        end: One past the last token that is scored. That one is not computed.
    """

    start: int
    first: int
    end: int

    @property
    def computed(self) -> int:
        """How many tokens the model sees."""
        return self.end - 1 - self.start


def windows(length: int, first: int, context: int, stride: int) -> Iterator[Window]:
    """The windows over a text.

    Args:
        length: Tokens of the text.
        first: The first one to score, at least 1: a text's first token has no probability.
        context: Most tokens that the model sees.
        stride: Tokens that a window scores, at least 1 and at most `context`.
    """
    while first < length:
        end = min(length, first + max(stride, context + 1 - first))
        yield Window(max(0, end - 1 - context), first, end)
        first = end
