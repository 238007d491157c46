"""Which slots of the cache are taken, and what each one holds.

Knows: slots, prefixes of prompts, who was used when. Does not know: tensors, what is computed next.

A prefix is known by its whole chunks: the key of a chunk is a SHA-256 over the key of the one
before it and its own tokens, so that one key stands for everything up to the chunk's end. Only
chunks that were computed as prefill are noted. The memory behind them is moved by `Rows`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol


class Rows(Protocol):
    """What the cache is kept in; see CacheMemory."""

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Copies the tokens at [start, stop) from one slot to the same places of another."""

    def discard(self, slot: int, start: int) -> None:
        """Gives the memory of a slot's tokens from `start` on back."""


def chunk_keys(tokens: Many[int], chunk: int) -> tuple[bytes, ...]:
    """The keys of a prompt's whole chunks, in order."""
    keys: list[bytes] = []
    for end in range(chunk, len(tokens) + 1, chunk):
        before = keys[-1] if keys else b""
        keys.append(sha256(before + array("I", tokens[end - chunk : end]).tobytes()).digest())
    return tuple(keys)


@dataclass(slots=True, eq=False)
class _Slot:
    """One row of the cache.

    Attributes:
        keys: Whole chunks that it holds, from the text's start.
        resident: Tokens that memory was used for since it was last given back.
        used: When it was last of use, in uses of the cache; 0 is longest ago.
    """

    number: int
    keys: list[bytes] = field(default_factory=list)
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
        chunk: Tokens of a whole chunk.
        rows: The memory.
        retained_tokens: Tokens that free slots may hold, all together, and in the long run have
            memory for.
    """

    def __init__(self, slots: int, chunk: int, rows: Rows, retained_tokens: int) -> None:
        self._slots = [_Slot(number) for number in range(slots)]
        self._chunk = chunk
        self._rows = rows
        self._retained_tokens = retained_tokens
        self._holders: dict[bytes, set[int]] = {}
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

    def find(self, keys: Many[bytes], start: int = 0) -> int:
        """How many of the first `keys` some slot holds, given that `start` of them are at hand.

        What is found counts as used.
        """
        count = start
        while count < len(keys) and keys[count] in self._holders:
            count += 1
        if count > start:
            self._holder(keys[count - 1]).used = self._now()
        return count

    def take(self, keys: Many[bytes]) -> tuple[int, int]:
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

    def note(self, number: int, key: bytes) -> None:
        """Says that a taken slot now holds one more whole chunk."""
        slot = self._slots[number]
        slot.keys.append(key)
        self._holders.setdefault(key, set()).add(number)

    def copy(self, number: int, keys: Many[bytes]) -> None:
        """Gives a taken slot, which holds the first of `keys`, the others too; all were found."""
        slot = self._slots[number]
        start = len(slot.keys)
        donor = self._holder(keys[-1])
        self._rows.copy(donor.number, number, start * self._chunk, len(keys) * self._chunk)
        for key in keys[start:]:
            self.note(number, key)
        if not donor.busy and donor.keys == slot.keys:
            donor.used = 0

    def _holder(self, key: bytes) -> _Slot:
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

    def _held_tokens(self, slot: _Slot) -> int:
        return len(slot.keys) * self._chunk
