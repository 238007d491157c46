"""Which slots of the cache are taken, and what each one holds.

Knows: slots, prefixes of prompts, who was used when. Does not know: tensors, what is computed next.

A prefix is known by its chunks: the key of a chunk has a SHA-256 over that of the one before it and
its own tokens, so that one key stands for everything up to the chunk's end. Only chunks that were
computed as prefill are noted: whole ones, and the last one before a fork; and, of sequences that
are copied, moved and rewound, tokens that were computed one by one, each a chunk of its own. The
memory behind them is moved by `Rows`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, Protocol


class Rows(Protocol):
    """What the cache is kept in; see CacheMemory."""

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Copies the tokens at [start, stop) from one slot to the same places of another."""

    def discard(self, slot: int, start: int) -> None:
        """Gives the memory of a slot's tokens from `start` on back."""


class Key(NamedTuple):
    """Stands for a text up to the end of one of its chunks.

    Attributes:
        end: Tokens up to there.
        digest: SHA-256 over all of them.
    """

    end: int
    digest: bytes


def chunk_keys(
    tokens: Many[int], chunk: int, *, fork: int | None = None, family: bytes = b""
) -> tuple[Key, ...]:
    """The keys of a prompt's whole chunks, in order, and of the last one before a fork.

    Args:
        tokens: The prompt.
        chunk: Tokens of a whole chunk.
        fork: Where the prompt is cut too. What stands behind has no keys.
        family: Keys of another family are other ones.
    """
    stop = len(tokens) if fork is None else fork
    ends = list(range(chunk, stop + 1, chunk))
    # A single token is not computed as prefill.
    if fork is not None and fork % chunk > 1:
        ends.append(fork)
    keys: list[Key] = []
    start, digest = 0, family
    for end in ends:
        digest = sha256(digest + array("I", tokens[start:end]).tobytes()).digest()
        keys.append(Key(end, digest))
        start = end
    return tuple(keys)


def token_key(before: Key | None, token: int, *, family: bytes = b"") -> Key:
    """The key of a text with one more token, which is computed by itself.

    Args:
        before: Key of the text without it; None where it is the first.
        token: The token.
        family: Keys of another family are other ones.
    """
    end, digest = before or (0, family)
    return Key(end + 1, sha256(digest + array("I", [token]).tobytes()).digest())


@dataclass(slots=True, eq=False)
class _Slot:
    """One row of the cache.

    Attributes:
        keys: Chunks that it holds, from the text's start.
        resident: Tokens that memory was used for since it was last given back.
        used: When it was last of use, in uses of the cache; 0 is longest ago.
    """

    number: int
    keys: list[Key] = field(default_factory=list)
    resident: int = 0
    used: int = 0
    busy: bool = False


class KVCache:
    """Hands out slots, and remembers what the free ones still hold.

    A decode step binds all rows up to the highest busy one, so low numbers are given out first.
    What stands there and was used more recently than what another free slot holds is moved to
    that one: the least recently used prefix is lost, wherever it was.

    Args:
        slots: How many there are.
        rows: The memory.
        retained_tokens: Tokens that free slots may hold, all together, and in the long run have
            memory for.
    """

    def __init__(self, slots: int, rows: Rows, retained_tokens: int) -> None:
        self._slots = [_Slot(number) for number in range(slots)]
        self._rows = rows
        self._retained_tokens = retained_tokens
        self._holders: dict[Key, set[int]] = {}
        self._uses = 0

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return not all(slot.busy for slot in self._slots)

    @property
    def has_excess(self) -> bool:
        """Whether free slots have more memory than they may keep."""
        return sum(slot.resident for slot in self._free()) > self._retained_tokens

    def trim(self) -> None:
        """Gives excess memory of one free slot back: what stands behind the prefix it holds.

        This takes some milliseconds, and so does getting it again: not for every step.
        """
        if not self.has_excess:
            return
        wasteful = [slot for slot in self._free() if slot.resident > self._held_tokens(slot)]
        slot = min(wasteful, key=lambda slot: slot.used)
        slot.resident = self._held_tokens(slot)
        self._rows.discard(slot.number, slot.resident)

    def find(self, keys: Many[Key], start: int = 0) -> int:
        """How many of the first `keys` some slot holds, given that `start` of them are at hand.

        What is found counts as used.
        """
        count = start
        while count < len(keys) and keys[count] in self._holders:
            count += 1
        if count > start:
            self._holder(keys[count - 1]).used = self._now()
        return count

    def take(self, keys: Many[Key]) -> tuple[int, int]:
        """Takes the lowest free slot for a text that begins with the chunks of `keys`.

        There has to be one.

        Returns:
            Its number, and how many of `keys` it holds already.
        """
        prefix = list(keys[: self.find(keys)])
        chosen = self._free()[0]
        held = len(prefix) if chosen.keys[: len(prefix)] == prefix else 0
        if len(chosen.keys) > held:
            self._save(chosen)
        self._forget(chosen, held)
        chosen.busy = True
        self._forget_excess()
        return chosen.number, held

    def give_back(self, number: int, tokens: int) -> None:
        """Makes a taken slot, in which `tokens` were computed, free again; it keeps its prefix."""
        slot = self._slots[number]
        assert slot.busy
        slot.busy = False
        slot.resident = max(slot.resident, tokens)
        slot.used = 0
        if slot.keys:
            # Free slots that hold just the same are of no use beside this one.
            for other in self._holders[slot.keys[-1]]:
                if not self._slots[other].busy and self._slots[other].keys == slot.keys:
                    self._slots[other].used = 0
            slot.used = self._now()
        self._forget_excess()

    def note(self, number: int, key: Key) -> None:
        """Says that a taken slot now holds one more chunk."""
        slot = self._slots[number]
        slot.keys.append(key)
        self._holders.setdefault(key, set()).add(number)

    def cut(self, number: int, tokens: int) -> None:
        """Says that what a taken slot holds behind so many tokens will be written over."""
        slot = self._slots[number]
        self._forget(slot, sum(key.end <= tokens for key in slot.keys))

    def copy(self, number: int, keys: Many[Key]) -> None:
        """Gives a taken slot, which holds the first of `keys`, the others too; all were found."""
        slot = self._slots[number]
        donor = self._holder(keys[-1])
        self._rows.copy(donor.number, number, self._held_tokens(slot), keys[-1].end)
        for key in keys[len(slot.keys) :]:
            self.note(number, key)
        if not donor.busy and donor.keys == slot.keys:
            donor.used = 0

    def _holder(self, key: Key) -> _Slot:
        return self._slots[min(self._holders[key])]

    def _free(self) -> list[_Slot]:
        return [slot for slot in self._slots if not slot.busy]

    def _now(self) -> int:
        self._uses += 1
        return self._uses

    def _save(self, slot: _Slot) -> None:
        """Moves what a slot holds to the least recently used one, if that lost less by it."""
        others = self._holders[slot.keys[-1]] - {slot.number}
        if others:
            heir = self._slots[min(others)]
            heir.used = max(heir.used, slot.used)
            return
        oldest = min(self._free(), key=lambda other: other.used)
        tokens = self._held_tokens(slot)
        if oldest.used >= slot.used or tokens > self._retained_tokens:
            return
        self._forget(oldest, 0)
        self._rows.copy(slot.number, oldest.number, 0, tokens)
        oldest.resident = max(oldest.resident, tokens)
        oldest.used = slot.used
        for key in slot.keys:
            self.note(oldest.number, key)

    def _forget(self, slot: _Slot, kept: int) -> None:
        """Strikes out all chunks that a slot holds but the first few."""
        for key in slot.keys[kept:]:
            self._holders[key].remove(slot.number)
            if not self._holders[key]:
                del self._holders[key]
        del slot.keys[kept:]

    def _forget_excess(self) -> None:
        """Forgets what free slots hold past the bound, from what was not used for longest."""
        free = sorted(self._free(), key=lambda slot: slot.used)
        excess = sum(map(self._held_tokens, free)) - self._retained_tokens
        for slot in free:
            if excess > 0:
                excess -= self._held_tokens(slot)
                self._forget(slot, 0)

    @staticmethod
    def _held_tokens(slot: _Slot) -> int:
        return slot.keys[-1].end if slot.keys else 0
