"""Who runs next: admission, prompt chunks, decoding.

Knows: sequences and slots. Does not know: tensors, probabilities, time.

A step computes one chunk of one prompt and one token of every sequence that is past its
prompt, so that a long prompt never stalls running streams for more than a chunk. Prompts are
cut at multiples of the chunk's length, counted from their start; where one token is left over
it is fed by decoding, as generated tokens are. The cut depends on the prompt alone, and so do
the bits of what comes out.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from nextok_server.kv_cache import SlotPool
from nextok_server.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step computes.

    Attributes:
        prefill: The sequence whose prompt goes on, if any.
        length: Tokens of its chunk, at least 2.
        decode: Sequences that get one token computed, by slot.
    """

    prefill: Sequence | None = None
    length: int = 0
    decode: list[Sequence] = field(default_factory=list)


class Scheduler:
    """Orders sequences into steps. Not thread-safe: the engine thread's own."""

    def __init__(self, slots: int, chunk: int) -> None:
        self._pool = SlotPool(slots)
        self._chunk = chunk
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._running: list[Sequence] = []
        self._arrivals = 0

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        admissible = bool(self._waiting) and len(self._pool) > 0
        return admissible or any(not sequence.paused for sequence in self._running)

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence in the queue: behind its own priority, before lower ones."""
        self._arrivals += 1
        entry = (-sequence.request.priority, self._arrivals, sequence)
        heapq.heappush(self._waiting, entry)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence, wherever it is, and frees its slot."""
        if sequence.slot >= 0:
            self._running.remove(sequence)
            self._pool.give_back(sequence.slot)
            sequence.slot = -1
        else:
            self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
            heapq.heapify(self._waiting)

    def plan(self) -> Plan:
        """Admits what there is room for and says what the next step computes."""
        while self._waiting and len(self._pool):
            sequence = heapq.heappop(self._waiting)[2]
            sequence.slot = self._pool.take()
            self._running.append(sequence)
        ready = [sequence for sequence in self._running if not sequence.paused]
        decode = [s for s in ready if len(s.tokens) - s.computed == 1]
        decode.sort(key=lambda sequence: sequence.slot)
        for sequence in ready:
            left = len(sequence.tokens) - sequence.computed
            if left > 1:
                return Plan(sequence, min(left, self._chunk), decode)
        return Plan(decode=decode)
