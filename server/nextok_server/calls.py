"""How the work of a step becomes calls of the model.

Knows: what calls of either kind of graph (docs/artifact.md) cost, and what their bits depend on.
Does not know: tensors, where drafts come from, who is next.
"""

from __future__ import annotations

from typing import Protocol

from nextok_server.drafts import PRICE_UNIT
from nextok_server.work import Work

# What a call costs besides its tokens, in tokens: reading the weights.
_CALL_TOKENS = 10


class Batch(Protocol):
    """The prompts of a step, as they are picked."""

    def chunks(self, slot: int, length: int) -> int:
        """How many chunks of a prompt may be added now.

        Args:
            slot: Of the sequence.
            length: Tokens of the first chunk.
        """

    def add(self, slot: int, length: int) -> None:
        """Adds so many tokens of a sequence's prompt."""


class Calls(Protocol):
    """Decides what is computed together.

    Attributes:
        most_tokens: Of one call.
        draft_price: What a drafted token is taken to cost, in parts of `PRICE_UNIT`. It does not
            depend on load: a request is to draft the same alone and in a crowd.
        cuts_freely: Whether a token has the same bits however its text is cut into calls.
    """

    most_tokens: int
    draft_price: int
    cuts_freely: bool

    def batch(self, *, decoding: bool) -> Batch:
        """An empty batch of prompts for a step that others decode in, or not."""

    def split(self, works: list[Work]) -> list[list[Work]]:
        """The calls of a step.

        Args:
            works: By slot.

        Returns:
            Each call's work, by slot. Where there are more drafts than fit, sequences take turns,
            and a draft that waits is the same when its turn comes: which passes a sequence is
            computed in does not depend on others.
        """


class OneCall:
    """For graphs whose bits depend on each token's text alone: everything in one call.

    Args:
        chunk: Tokens of a whole chunk of a prompt.
        slots: Sequences that may run.
    """

    # Chunks of prompts that a step computes while nobody waits for its next token. Four together
    # take 0.88 of the time of four one by one.
    _CHUNKS_ALONE = 4
    # Chunks' lengths of drafts that a step verifies, so that those without do not wait for long.
    _DRAFT_CHUNKS = 2
    cuts_freely = True

    def __init__(self, chunk: int, slots: int) -> None:
        self._chunk = chunk
        self._next_slot = 0
        self.most_tokens = (self._CHUNKS_ALONE + self._DRAFT_CHUNKS) * chunk + slots
        # Its part of a call in which all slots run: so drafts do not lose where they all do.
        self.draft_price = PRICE_UNIT * slots // (slots + _CALL_TOKENS)

    def batch(self, *, decoding: bool) -> Batch:
        """See Calls."""
        return _FlatBatch(self._chunk, 1 if decoding else self._CHUNKS_ALONE)

    def split(self, works: list[Work]) -> list[list[Work]]:
        """See Calls."""
        drafting = [work for work in works if work.draft]
        if sum(work.size for work in drafting) > self._DRAFT_CHUNKS * self._chunk:
            taken = self._turn(drafting)
            works = [work for work in works if not work.draft or work.sequence.slot in taken]
        return [works] if works else []

    def _turn(self, drafting: list[Work]) -> set[int]:
        """The slots of those whose turn it is, as many as fit."""
        later = [work for work in drafting if work.sequence.slot >= self._next_slot]
        left = self._DRAFT_CHUNKS * self._chunk
        taken: set[int] = set()
        for work in later + drafting[: len(drafting) - len(later)]:
            left -= work.size
            if left < 0:
                break
            taken.add(work.sequence.slot)
            self._next_slot = work.sequence.slot + 1
        return taken


class SeparateCalls:
    """For graphs whose bits depend on how a token is computed: prompts, drafts and single tokens.

    A step verifies drafts in a few calls, each no larger than a prompt's whole chunk, so that
    streams without drafts do not wait for long.

    Args:
        chunk: Tokens of a whole chunk of a prompt, even.
        slots: Sequences that may run.
    """

    # Calls of drafts. Fewer leave sequences waiting while the step decodes beside their idle rows.
    _DRAFT_CALLS = 4
    cuts_freely = False

    def __init__(self, chunk: int, slots: int) -> None:
        self._chunk = chunk
        self._next_slot = 0
        self.most_tokens = max(chunk, slots)
        # Two to three times what it takes where there is one stream.
        self.draft_price = PRICE_UNIT // 4

    def batch(self, *, decoding: bool) -> Batch:  # noqa: ARG002
        """See Calls."""
        return _PaddedBatch(self._chunk)

    def split(self, works: list[Work]) -> list[list[Work]]:
        """See Calls."""
        calls = [[work for work in works if work.length > 1]]
        drafts = [work for work in works if work.draft]
        while drafts and len(calls) <= self._DRAFT_CALLS:
            calls.append(self._drafts(drafts))
            drafts = [work for work in drafts if work not in calls[-1]]
        calls.append([work for work in works if work.size == 1])
        return [call for call in calls if call]

    def _drafts(self, drafts: list[Work]) -> list[Work]:
        """The first whose turn it is, and those of the next slots that go well with it."""
        waiting = [work for work in drafts if work.sequence.slot >= self._next_slot] or drafts
        taken: list[Work] = []
        longest = size = 0
        for work in waiting:
            longest = max(longest, work.size)
            grown = _padded(work.sequence.slot - waiting[0].sequence.slot + 1, longest)
            # A call of its own would be cheaper than the padding that this one would take.
            wasteful = grown - size > work.size + _CALL_TOKENS
            if taken and (grown > self._chunk or wasteful):
                break
            taken.append(work)
            size = grown
        self._next_slot = taken[-1].sequence.slot + 1
        return taken


class _FlatBatch:
    """So many chunks, of one prompt or several."""

    def __init__(self, chunk: int, chunks: int) -> None:
        self._chunk = chunk
        self._left = chunk * chunks

    def chunks(self, slot: int, length: int) -> int:  # noqa: ARG002
        return self._left // self._chunk if length == self._chunk else int(self._left >= length)

    def add(self, slot: int, length: int) -> None:  # noqa: ARG002
        self._left -= length


class _PaddedBatch:
    """Rows of neighbouring slots, all as long as the longest.

    Its first chunk always fits, others while the whole is no larger than a chunk.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._first = self._last = -1
        self._longest = 0

    def chunks(self, slot: int, length: int) -> int:
        if self._longest == 0:
            return 1
        rows = max(self._last, slot) - min(self._first, slot) + 1
        return int(_padded(rows, max(self._longest, length)) <= self._chunk)

    def add(self, slot: int, length: int) -> None:
        self._first = slot if self._longest == 0 else min(self._first, slot)
        self._last = max(self._last, slot)
        self._longest = max(self._longest, length)


def _padded(rows: int, longest: int) -> int:
    """Tokens of rows that are padded to an even length."""
    return rows * (longest + longest % 2)
