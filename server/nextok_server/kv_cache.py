"""Which slots of the cache are taken, and what each one holds.

Knows: slots, prefixes of prompts, who was used when. Does not know: tensors, what is computed next.

A prefix is known by its chunks; see keys. Only chunks that were
computed as prefill are noted: whole ones, and the last one before a fork; and, of sequences that
are copied, moved and rewound, tokens that were computed one by one, each a chunk of its own. The
memory behind them is moved by `Rows`. Single tokens can also be put aside, on a shelf, where they
stay when the slot that they were computed in goes on with other ones.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Protocol

from nextok_server.keys import Key
from nextok_server.shelf import Shelf


class Rows(Protocol):
    """What the cache is kept in; see CacheMemory."""

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Copies the tokens at [start, stop) from one slot to the same places of another."""

    def discard(self, slot: int, start: int) -> None:
        """Gives the memory of a slot's tokens from `start` on back."""

    def put_aside(self, slot: int, token: int, place: int) -> None:
        """Copies a slot's token to a place on the shelf."""

    def bring_back(self, places: Many[int], slot: int, start: int) -> None:
        """Copies tokens from places on the shelf to those from `start` on of a slot."""


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
        shelf: Where single tokens are put aside.
    """

    def __init__(
        self, slots: int, rows: Rows, retained_tokens: int, shelf: Shelf | None = None
    ) -> None:
        self._slots = [_Slot(number) for number in range(slots)]
        self._rows = rows
        self._retained_tokens = retained_tokens
        self._shelf = shelf or Shelf(0)
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
        """How many of the first `keys` slots or the shelf hold, given `start` of them at hand.

        What slots hold of them counts as used.
        """
        count = self._find_in_slots(keys, start)
        while count < len(keys) and (keys[count] in self._shelf or keys[count] in self._holders):
            count += 1
        return count

    def take(self, keys: Many[Key]) -> tuple[int, int]:
        """Takes the lowest free slot for a text that begins with the chunks of `keys`.

        There has to be one.

        Returns:
            Its number, and how many of `keys` it holds already.
        """
        prefix = list(keys[: self._find_in_slots(keys, 0)])
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
        while (own := len(slot.keys)) < len(keys):
            last = len(keys)
            while last > own and keys[last - 1] not in self._holders:
                last -= 1
            if last > own:
                self._copy_from_slot(slot, keys[:last])
            else:
                self._copy_from_shelf(slot, keys)

    def shelve(self, number: int, key: Key) -> None:
        """Puts aside the last token of a text, a chunk of its own, that a taken slot holds."""
        place = self._shelf.put(key)
        if place is not None:
            self._rows.put_aside(number, key.end - 1, place)

    def _copy_from_slot(self, slot: _Slot, keys: Many[Key]) -> None:
        donor = self._holder(keys[-1])
        self._rows.copy(donor.number, slot.number, self._held_tokens(slot), keys[-1].end)
        for key in keys[len(slot.keys) :]:
            self.note(slot.number, key)
        if not donor.busy and donor.keys == slot.keys:
            donor.used = 0

    def _copy_from_shelf(self, slot: _Slot, keys: Many[Key]) -> None:
        """As many as lie there one after the other."""
        own = stop = len(slot.keys)
        while stop < len(keys) and keys[stop] in self._shelf:
            stop += 1
        places = self._shelf.take(keys[own:stop])
        self._rows.bring_back(places, slot.number, keys[own].end - 1)
        for key in keys[own:stop]:
            self.note(slot.number, key)

    def _find_in_slots(self, keys: Many[Key], start: int) -> int:
        count = start
        while count < len(keys) and keys[count] in self._holders:
            count += 1
        if count > start:
            self._holder(keys[count - 1]).used = self._now()
        return count

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
