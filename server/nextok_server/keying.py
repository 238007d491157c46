"""What the cache knows a sequence's text by, and which of that the sequence may take from others.

Knows: requests, keys. Does not know: slots, memory, who runs next.
"""

from __future__ import annotations

from bisect import bisect_right

from nextok_server.keys import Key, chunk_keys, token_key
from nextok_server.sequence import Sequence


class Keying:
    """Gives sequences their keys.

    Args:
        chunk: Tokens of a whole chunk of a prompt.
        reuse: Whether what was computed for one prompt is used for others.
    """

    def __init__(self, chunk: int, *, reuse: bool) -> None:
        self._chunk = chunk
        self._reuse = reuse

    def begin(self, sequence: Sequence) -> None:
        """Gives a text's chunks their keys: known to everybody, to its family or not at all."""
        request = sequence.request
        sequence.keys = []
        if self._reuse or request.family:
            fork = len(request.prompt) if request.open else request.fork
            family = self._family(sequence)
            sequence.keys.extend(chunk_keys(request.prompt, self._chunk, fork=fork, family=family))
            self.extend(sequence)

    def extend(self, sequence: Sequence) -> None:
        """Gives the tokens of an open sequence that came after its keys keys of their own."""
        if not sequence.request.open:
            return
        keys, family = sequence.keys, self._family(sequence)
        last = keys[-1] if keys else None
        for token in sequence.tokens[last.end if last else 0 :]:
            last = token_key(last, token, family=family)
            keys.append(last)

    def reusable(self, sequence: Sequence) -> list[Key]:
        """The chunks of its text that a sequence may take from others.

        What its distributions come from is left to compute, one token at least.
        """
        request = sequence.request
        if request.outputs.prompt or (request.bypass_prefix_reuse and not request.family):
            return []
        scoring = request.scoring
        most = len(sequence.tokens) - 1 if scoring is None else scoring.first
        return sequence.keys[: count(sequence.keys, most)]

    def _family(self, sequence: Sequence) -> bytes:
        """Whom its keys are known to; empty: to everybody."""
        alone = sequence.request.bypass_prefix_reuse or not self._reuse
        return sequence.request.family if alone else b""


def held(sequence: Sequence) -> int:
    """How many of its keyed chunks a sequence has in its slot."""
    return count(sequence.keys, sequence.computed)


def count(keys: list[Key], tokens: int) -> int:
    """How many chunks end within so many tokens."""
    if not keys or keys[-1].end <= tokens:
        return len(keys)
    return bisect_right(keys, tokens, key=lambda key: key.end)
