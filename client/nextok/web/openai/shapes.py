"""The shapes of OpenAI's answers: tokens, log probabilities, finish reasons, usage.

Knows nextok's values and OpenAI's objects. Does not know how either travels.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any, Final

from nextok.values import Finish, FinishReason, ScoredToken, Step

_FINISH_REASONS: Final = {FinishReason.STOP: "stop"}


def finish_reason(finish: Finish | None) -> str:
    """stop, or length: also where the context is full."""
    return "length" if finish is None else _FINISH_REASONS.get(finish.finish_reason, "length")


def token_name(data: bytes) -> str:
    r"""A token as text; one that is not UTF-8 by itself as OpenAI shows it: bytes:\xe2\x80."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class LogprobWriter:
    """Writes tokens of one text as OpenAI's logprobs object, piece by piece.

    Args:
        top: How many of the most likely tokens each lists. The token itself is always among
            them, so that there may be one more.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def skip(self, data: Iterable[bytes]) -> None:
        """Goes past tokens that are not written."""
        for token in data:
            self._take_offset(token)

    def write(self, tokens: Iterable[Step | ScoredToken]) -> dict[str, Any]:
        """Returns the object for the next tokens; characters count from the prompt's first."""
        tokens = list(tokens)
        return {
            "tokens": [token_name(token.bytes) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [self._top_logprobs(token) for token in tokens],
            "text_offset": [self._take_offset(token.bytes) for token in tokens],
        }

    def _top_logprobs(self, token: Step | ScoredToken) -> dict[str, float] | None:
        if token.logprob is None:  # the first of a text: nothing comes before it
            return None
        listed = {token_name(c.bytes): c.logprob for c in token.top_logprobs[: self._top]}
        listed.setdefault(token_name(token.bytes), token.logprob)
        return listed

    def _take_offset(self, data: bytes) -> int:
        """The character that the token has its first byte of."""
        start = self._offset
        self._offset += len(self._decoder.decode(data))
        return start


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Tokens counted."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
