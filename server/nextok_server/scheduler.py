"""Who runs next: admission, prompt chunks, decoding.

Knows: sequences, and which prefixes the cache holds. Does not know: tensors, probabilities, time.

A step computes at most one chunk's length of prompts, a few of drafts, and one token of every
other sequence that is past its prompt, so that neither stalls running streams for long. Prompts
are cut at multiples of the chunk's length, counted from their start, and anew from where they fork;
where one token is left over it is fed by decoding, as generated tokens are. The cut depends on the
request alone, and so do the bits of what comes out.

Chunks that some slot holds are not computed again but copied, just before the sequence goes on
behind them. Where several need a chunk that none holds yet, the first one computes it, and at the
next step the others find it. So a sequence that ends holds nobody up, and the first one that is
ready never waits.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass, field

from nextok_server.kv_cache import Key, KVCache, chunk_keys
from nextok_server.sequence import Request, Sequence
from nextok_server.verification import Draft, Turns

# Chunks that one step copies, unless the first sequence needs more. Copying one takes a
# twentieth to a hundredth of the time of computing it.
_COPIED_CHUNKS = 16
# Steps between two looks at whether free slots have memory to give back.
_STEPS_A_TRIM = 64


@dataclass(frozen=True, slots=True)
class Work:
    """A chunk of a prompt to compute.

    Attributes:
        sequence: Whose prompt.
        length: Tokens, at least 2.
    """

    sequence: Sequence
    length: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step computes.

    Attributes:
        prefill: Chunks of prompts, by slot.
        verify: Drafts that are computed behind their sequences' last tokens, call by call, by slot.
        decode: Sequences that get one token computed, by slot.
    """

    prefill: list[Work] = field(default_factory=list)
    verify: list[list[Draft]] = field(default_factory=list)
    decode: list[Sequence] = field(default_factory=list)


class Scheduler:
    """Orders sequences into steps. Not thread-safe: the engine thread's own.

    Args:
        cache: The slots.
        chunk: Tokens of a whole chunk of a prompt, even.
        reuse: Whether what was computed for one prompt is used for others.
    """

    def __init__(self, cache: KVCache, chunk: int, *, reuse: bool) -> None:
        self._cache = cache
        self._chunk = chunk
        self._reuse = reuse
        self._turns = Turns(chunk)
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._running: list[Sequence] = []
        self._arrivals = 0
        self._steps = 0

    @property
    def has_excess(self) -> bool:
        """Whether steps with nothing else to do would give memory back."""
        return self._cache.has_excess

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        admissible = bool(self._waiting) and self._cache.has_room
        return admissible or any(not sequence.paused for sequence in self._running)

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence in the queue: behind its own priority, before lower ones."""
        sequence.keys = self._keys(sequence.request)
        if sequence.keys:
            # What it will want is not to be lost to those that are admitted before it.
            self._cache.find(self._reusable(sequence))
        self._arrivals += 1
        entry = (-sequence.request.priority, self._arrivals, sequence)
        heapq.heappush(self._waiting, entry)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence, wherever it is, and frees its slot."""
        if sequence.slot >= 0:
            self._running.remove(sequence)
            self._cache.give_back(sequence.slot, sequence.computed)
            sequence.slot = -1
        else:
            self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
            heapq.heapify(self._waiting)

    def plan(self) -> Plan:
        """Admits what there is room for and says what the next step computes.

        What the step builds on is copied into place.
        """
        self._admit()
        self._steps += 1
        if not self._running or self._steps % _STEPS_A_TRIM == 0:
            self._cache.trim()
        plan = Plan()
        drafts: list[Draft] = []
        batch = _Batch(self._chunk)
        copies = _COPIED_CHUNKS
        begun: set[Key] = set()
        for sequence in self._running:
            if sequence.paused:
                continue
            if len(sequence.tokens) - sequence.computed == 1:
                if draft := self._draft(sequence):
                    drafts.append(draft)
                else:
                    plan.decode.append(sequence)
                continue
            # Prompts are fed in chunks up to their last, so this is a chunk's border.
            own = _held(sequence)
            reusable = self._reusable(sequence)
            held = self._cache.find(reusable, own)
            place = reusable[held - 1].end if held > own else sequence.computed
            length = self._length(sequence, place)
            affordable = held - own <= copies or copies == _COPIED_CHUNKS
            if not affordable or (length > 1 and not batch.fits(sequence.slot, length)):
                continue
            if not begun.isdisjoint(reusable[held : held + 1]):
                continue
            if held > own:
                self._copy(sequence, held)
                copies -= held - own
            if length > 1:
                batch.add(sequence.slot, length)
                begun.update(sequence.keys[held : held + 1])
                plan.prefill.append(Work(sequence, length))
            else:
                plan.decode.append(sequence)
        plan.prefill.sort(key=lambda work: work.sequence.slot)
        plan.decode.sort(key=lambda sequence: sequence.slot)
        drafts.sort(key=lambda draft: draft.sequence.slot)
        plan.verify.extend(self._turns.take(drafts))
        return plan

    def note_computed(self, work: Work) -> None:
        """Says that a chunk's state stands in the cache now."""
        sequence = work.sequence
        before = _held(sequence)
        sequence.computed += work.length
        for key in sequence.keys[before : _held(sequence)]:
            self._cache.note(sequence.slot, key)

    def _admit(self) -> None:
        while self._waiting and self._cache.has_room:
            sequence = heapq.heappop(self._waiting)[2]
            sequence.slot, held = self._cache.take(self._reusable(sequence))
            sequence.computed = sequence.cached = sequence.keys[held - 1].end if held else 0
            self._running.append(sequence)

    def _keys(self, request: Request) -> tuple[Key, ...]:
        """What the chunks of a prompt are known by: to everybody, to its family or not at all."""
        alone = request.bypass_prefix_reuse or not self._reuse
        if not self._reuse and not request.family:
            return ()
        family = request.family if alone else b""
        return chunk_keys(request.prompt, self._chunk, fork=request.fork, family=family)

    def _reusable(self, sequence: Sequence) -> tuple[Key, ...]:
        """The chunks of its prompt that a sequence may take from others.

        What its distributions come from is left to compute, one token at least.
        """
        request = sequence.request
        if request.outputs.prompt or (request.bypass_prefix_reuse and not request.family):
            return ()
        scoring = request.scoring
        most = len(request.prompt) - 1 if scoring is None else scoring.first
        return sequence.keys[: _count(sequence.keys, most)]

    def _length(self, sequence: Sequence, place: int) -> int:
        """Tokens of the chunk that begins at a place."""
        fork = sequence.request.fork
        end = fork if fork is not None and place < fork else len(sequence.tokens)
        return min(self._chunk, end - place)

    def _draft(self, sequence: Sequence) -> Draft | None:
        """What may follow the last token of a completion, where drafts are wanted and known."""
        if sequence.drafter is None or not sequence.generated:
            return None
        # One pass gives a token more than was drafted.
        useful = sequence.request.stop.max_tokens - sequence.generated - 1
        tokens = sequence.drafter.draft(sequence.tokens, min(useful, self._chunk - 1))
        return Draft(sequence, tokens) if tokens else None

    def _copy(self, sequence: Sequence, held: int) -> None:
        self._cache.copy(sequence.slot, sequence.keys[:held])
        tokens = sequence.keys[held - 1].end
        sequence.cached += tokens - sequence.computed
        sequence.computed = tokens


def _held(sequence: Sequence) -> int:
    """How many of its keyed chunks a sequence has in its slot."""
    return _count(sequence.keys, sequence.computed)


def _count(keys: tuple[Key, ...], tokens: int) -> int:
    """How many chunks end within so many tokens."""
    return bisect_right(keys, tokens, key=lambda key: key.end)


class _Batch:
    """The shape of one call: rows of neighbouring slots, all as long as the longest.

    Its first chunk always fits, others while the whole is no larger than a chunk.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._first = self._last = -1
        self._longest = 0

    def fits(self, slot: int, length: int) -> bool:
        """Whether a chunk may be added."""
        if self._longest == 0:
            return True
        rows = max(self._last, slot) - min(self._first, slot) + 1
        longest = max(self._longest, length)
        # Rows are padded to an even length.
        return rows * (longest + longest % 2) <= self._tokens

    def add(self, slot: int, length: int) -> None:
        """Adds a chunk."""
        self._first = slot if self._longest == 0 else min(self._first, slot)
        self._last = max(self._last, slot)
        self._longest = max(self._longest, length)
