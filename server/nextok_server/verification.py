"""Whose drafts are verified in a step.

Knows: drafts, slots, what a call of several rows costs. Does not know: tensors, where drafts come
from.

A step verifies drafts in a few calls, each no larger than a prompt's whole chunk, so that streams
without drafts do not wait for long. Where there are more drafts than fit, sequences take turns. A
draft that waits is the same when its turn comes: which passes a sequence is computed in does not
depend on others.
"""

from __future__ import annotations

from dataclasses import dataclass

from nextok_server.sequence import Sequence

# What a call costs besides its tokens, in tokens: reading the weights.
_CALL_TOKENS = 10
# Calls of a step. Fewer leave sequences waiting while the step decodes beside their idle rows.
_CALLS = 4


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next in a sequence.

    Attributes:
        sequence: Whose last token is not computed yet.
        tokens: What may follow that one, at least one token.
    """

    sequence: Sequence
    tokens: list[int]


class Turns:
    """Picks the drafts of a step, slot by slot.

    Args:
        tokens: Most that one call computes, padding included.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._next_slot = 0

    def take(self, drafts: list[Draft]) -> list[list[Draft]]:
        """Those whose turn it is, each call's by slot; at least one where there is any.

        Args:
            drafts: By slot.
        """
        calls: list[list[Draft]] = []
        while drafts and len(calls) < _CALLS:
            calls.append(self._call(drafts))
            drafts = [draft for draft in drafts if draft not in calls[-1]]
        return calls

    def _call(self, drafts: list[Draft]) -> list[Draft]:
        """The first whose turn it is, and those of the next slots that go well with it."""
        waiting = [draft for draft in drafts if draft.sequence.slot >= self._next_slot] or drafts
        taken: list[Draft] = []
        longest = size = 0
        for draft in waiting:
            own = len(draft.tokens) + 1
            longest = max(longest, own)
            rows = draft.sequence.slot - waiting[0].sequence.slot + 1
            # Rows are padded to an even length.
            grown = rows * (longest + longest % 2)
            # A call of its own would be cheaper than the padding that this one would take.
            wasteful = grown - size > own + _CALL_TOKENS
            if taken and (grown > self._tokens or wasteful):
                break
            taken.append(draft)
            size = grown
        self._next_slot = taken[-1].sequence.slot + 1
        return taken
