"""Sequences that wait for a slot, and whose turn it is.

Knows: callers, priorities, how much was computed for whom. Does not know: slots, prompts' chunks,
time.

The highest priority goes first, and among equals the caller for whom the fewest tokens were
computed; that counts what runs as well, its prompt from the start. A caller that was away begins
with what the least served of those who are there has, so that nobody saves up turns. So callers
that always have something waiting get the same number of tokens each, however many requests they
send. (This is the virtual token counter of Sheng et al., "Fairness in Serving Large Language
Models", OSDI 2024, counted when a slot is given out.) So that low priorities get on as well, one
turn in a few goes by that alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from nextok_server.sequence import Sequence

# Turns in a row that priorities may decide against what is fair.
_MOST_PASSES = 8


class FairQueue:
    """Orders what waits. Within a caller and a priority: first come, first served."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[int, int, Sequence]]] = {}
        # Tokens computed for callers, for sequences that have left.
        self._served: dict[str, int] = {}
        self._arrivals = 0
        self._passes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return sum(map(len, tuple(self._waiting.values())))

    def add(self, sequence: Sequence, running: Iterable[Sequence]) -> None:
        """Puts a sequence in the queue, beside those that run."""
        if sequence.caller not in self._waiting:
            self._welcome(sequence.caller, running)
        self._arrivals += 1
        entry = (-sequence.request.priority, self._arrivals, sequence)
        heapq.heappush(self._waiting.setdefault(sequence.caller, []), entry)

    def remove(self, sequence: Sequence) -> None:
        """Takes a sequence out whose turn has not come, if it is there."""
        left = [e for e in self._waiting.get(sequence.caller, []) if e[2] is not sequence]
        heapq.heapify(left)
        self._keep(sequence.caller, left)

    @property
    def families(self) -> set[bytes]:
        """Those of the sequences that wait."""
        return {e[2].request.family for entries in self._waiting.values() for e in entries}

    def pop(self, running: Iterable[Sequence]) -> Sequence:
        """Takes out the sequence whose turn it is, given those that run; there has to be one."""
        caller, self._passes = self._turn(running)
        entries = self._waiting[caller]
        sequence = heapq.heappop(entries)[2]
        self._keep(caller, entries)
        return sequence

    def ranked(self, sequences: list[Sequence], running: Iterable[Sequence]) -> list[Sequence]:
        """Orders sequences that run and want their prompts computed, as slots are given out.

        Whose caller has less goes first, so that many long prompts do not hold up another's.
        """
        if len({sequence.caller for sequence in sequences}) < 2:
            return sequences
        served = self._totals(running)
        return sorted(sequences, key=lambda one: (-one.request.priority, served[one.caller]))

    def settle(self, sequence: Sequence) -> None:
        """Counts what was computed for a sequence that ran and has left."""
        computed = sequence.processed - sequence.settled
        self._served[sequence.caller] = self._served.get(sequence.caller, 0) + computed
        sequence.settled = sequence.processed

    def _turn(self, running: Iterable[Sequence]) -> tuple[str, int]:
        """Whose turn it is, and how many in a row priorities have then decided."""
        served = self._totals(running)
        # Rank (lower is higher priority), tokens, arrival of each caller's next sequence.
        nexts = {
            caller: (entries[0][0], served[caller], entries[0][1])
            for caller, entries in self._waiting.items()
        }
        chosen = min(nexts, key=nexts.__getitem__)
        fair = min(nexts, key=lambda caller: nexts[caller][1:])
        if nexts[chosen][0] == nexts[fair][0]:
            return chosen, 0
        if self._passes == _MOST_PASSES:
            return fair, 0
        return chosen, self._passes + 1

    def _welcome(self, caller: str, running: Iterable[Sequence]) -> None:
        """Counts a caller that comes, or comes back, as served like the least served one there.

        Those who are gone and would be raised as well are forgotten.
        """
        present = self._totals(running)
        if caller in present:
            return
        least = min(present.values(), default=None)
        own = self._served.pop(caller, 0)
        self._served = {
            name: tokens
            for name, tokens in self._served.items()
            if name in present or (least is not None and tokens > least)
        }
        self._served[caller] = 0 if least is None else max(own, least)

    def _totals(self, running: Iterable[Sequence]) -> dict[str, int]:
        """What was computed for each caller that has something running or waiting."""
        totals = {caller: self._served.get(caller, 0) for caller in self._waiting}
        for sequence in running:
            before = totals.get(sequence.caller)
            if before is None:
                before = self._served.get(sequence.caller, 0)
            # All of its prompt, from the start: several that start together are to count.
            cost = max(sequence.computed, len(sequence.request.prompt)) - sequence.cached
            totals[sequence.caller] = before + cost
        return totals

    def _keep(self, caller: str, entries: list[tuple[int, int, Sequence]]) -> None:
        if entries:
            self._waiting[caller] = entries
        else:
            self._waiting.pop(caller, None)
