"""Who runs next: admission, prompt chunks, decoding.

Knows: sequences, and which prefixes the cache holds. Does not know: tensors, probabilities, time,
whose turn it is.

A step computes at most one chunk's length of prompts while others decode, a few of drafts, and one
token of every other sequence that is past its prompt, so that neither stalls running streams for
long. Prompts are cut at multiples of the chunk's length, counted from their start, and anew from
where they fork; where one token is left over it is fed as generated tokens are. The cut depends on
the request alone, and so do the bits of what comes out, whatever kind of graph computes them.
Tokens behind the prompt that are computed again, of a sequence that lost its slot or began with
them, go one by one too, unless the graph's bits do not depend on it.

Chunks that some slot holds are not computed again but copied, just before the sequence goes on
behind them. Where several need a chunk that none holds yet, the first one computes it, and at the
next step the others find it. So a sequence that ends holds nobody up, and the first one that is
ready never waits.
"""

from __future__ import annotations

from nextok_server import keying
from nextok_server.calls import Batch, Calls
from nextok_server.fair_queue import FairQueue
from nextok_server.keys import Key
from nextok_server.kv_cache import KVCache
from nextok_server.sequence import Sequence
from nextok_server.work import Work

# Chunks that one step copies, unless the first sequence needs more. Copying one takes a
# twentieth to a hundredth of the time of computing it.
_COPIED_CHUNKS = 16
# Steps between two looks at whether free slots have memory to give back.
_STEPS_A_TRIM = 64


class Scheduler:
    """Orders sequences into steps. Not thread-safe: the engine thread's own.

    Args:
        cache: The slots.
        calls: How work becomes calls of the model.
        chunk: Tokens of a whole chunk of a prompt, even.
        reuse: Whether what was computed for one prompt is used for others.
    """

    def __init__(self, cache: KVCache, calls: Calls, chunk: int, *, reuse: bool) -> None:
        self._cache = cache
        self._calls = calls
        self._chunk = chunk
        self._keying = keying.Keying(chunk, reuse=reuse)
        self._waiting = FairQueue()
        self._running: list[Sequence] = []
        self._steps = 0

    @property
    def running(self) -> int:
        """Sequences that have a slot. May be read by any thread, as may the next two."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for one."""
        return len(self._waiting)

    @property
    def held_tokens(self) -> int:
        """Tokens of running sequences that the cache holds."""
        return sum(sequence.computed for sequence in tuple(self._running))

    @property
    def has_excess(self) -> bool:
        """Whether steps with nothing else to do would give memory back."""
        return self._cache.has_excess

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        if self.admits:
            return True
        # The latest first: those that nobody reads have been there for long.
        return any(map(_is_ready, reversed(self._running)))

    @property
    def admits(self) -> bool:
        """Whether one of those that wait is to get a slot."""
        if not self._waiting:
            return False
        return self._cache.has_room or self._resting_relative() is not None

    @property
    def active(self) -> int:
        """How many of the running sequences have something to compute, be it that they pause."""
        return sum(not sequence.idle for sequence in self._running)

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence in the queue, where its caller and its priority put it."""
        self._keying.begin(sequence)
        if sequence.keys:
            # What it will want is not to be lost to those that are admitted before it.
            self._cache.find(self._keying.reusable(sequence))
        self._waiting.add(sequence, self._running)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence, wherever it is, and frees its slot."""
        if sequence.slot >= 0:
            self._free(sequence)
        else:
            self._waiting.remove(sequence)

    def park(self, sequence: Sequence) -> None:
        """Frees the slot of an open sequence that has nothing to do; `add` gets it another."""
        sequence.row = None
        if sequence.slot >= 0:
            self._free(sequence)
            sequence.computed = 0

    def rewind(self, sequence: Sequence) -> None:
        """Takes in that the end of a running open sequence has changed.

        Where all its tokens are computed the last one is once more, if its distribution is wanted
        again: a token of a prompt's chunk with that.
        """
        if not sequence.at_work:
            return
        if sequence.computed >= len(sequence.tokens):
            sequence.computed = len(sequence.tokens) - 1
            if not self._calls.cuts_freely:
                sequence.computed = sequence.keys[-2].end if len(sequence.keys) > 1 else 0
            sequence.cached = min(sequence.cached, sequence.computed)
        self._keying.extend(sequence)
        self._cache.cut(sequence.slot, sequence.computed)

    def plan(self) -> list[list[Work]]:
        """Admits what there is room for and says what the next step computes, call by call.

        What the step builds on is copied into place.
        """
        self._admit()
        self._steps += 1
        if not self._running or self._steps % _STEPS_A_TRIM == 0:
            self._cache.trim()
        ready = [sequence for sequence in self._running if _is_ready(sequence)]
        decoding = [sequence for sequence in ready if _is_decoding(sequence)]
        prefilling = [sequence for sequence in ready if not _is_decoding(sequence)]
        works = self._prompts(
            self._waiting.ranked(prefilling, self._running),
            self._calls.batch(decoding=bool(decoding)),
        )
        works += [Work(sequence, 1, self.draft(sequence)) for sequence in decoding]
        works.sort(key=lambda work: work.sequence.slot)
        return self._calls.split(works)

    def draft(self, sequence: Sequence) -> list[int]:
        """What may follow the last token of a completion, where drafts are wanted and known."""
        if sequence.drafter is None or not sequence.generated:
            return []
        # One pass gives a token more than was drafted.
        useful = sequence.request.stop.max_tokens - sequence.generated - 1
        most = min(useful, self._chunk - 1)
        draft = sequence.drafter.draft(sequence.tokens, most, self._calls.draft_price)
        if draft and sequence.matcher is not None:
            # What the constraint does not allow is wrong, whatever the model says.
            draft = draft[: sequence.matcher.valid(draft)]
        return draft

    def _prompts(self, sequences: list[Sequence], batch: Batch) -> list[Work]:
        """The next chunks of prompts, as far as they fit and nobody else computes them."""
        works: list[Work] = []
        copies = most_copies = _COPIED_CHUNKS * self._chunk
        begun: set[Key] = set()
        for sequence in sequences:
            # Prompts are fed in chunks up to their last, so this is a chunk's border.
            own = keying.held(sequence)
            reusable = self._keying.reusable(sequence)
            held = self._cache.find(reusable, own)
            place = reusable[held - 1].end if held > own else sequence.computed
            length = self._length(sequence, place, 1)
            chunks = batch.chunks(sequence.slot, length) if length > 1 else 1
            if sequence.request.outputs.prompt or sequence.request.scoring is not None:
                # What it tells of its prompt is to come piece by piece, as far as it is read.
                chunks = min(chunks, 1)
            copied = place - sequence.computed
            affordable = copied <= copies or copies == most_copies
            if not affordable or not chunks:
                continue
            if not begun.isdisjoint(reusable[held : held + 1]):
                continue
            if held > own:
                self._copy(sequence, held)
                copies -= copied
            length = self._length(sequence, place, chunks)
            if length > 1:
                batch.add(sequence.slot, length)
                begun.update(sequence.keys[held : keying.count(sequence.keys, place + length)])
            works.append(Work(sequence, length))
        return works

    def note_computed(self, work: Work) -> None:
        """Says that a chunk's state stands in the cache now."""
        sequence = work.sequence
        before = keying.held(sequence)
        sequence.computed += work.length
        sequence.processed += work.length
        sequence.last_step = self._steps
        self._keying.extend(sequence)
        for key in sequence.keys[before : keying.held(sequence)]:
            self._cache.note(sequence.slot, key)
            if sequence.shelved and key.end > len(sequence.request.prompt):
                self._cache.shelve(sequence.slot, key)

    def _admit(self) -> None:
        while self._waiting:
            if not self._cache.has_room:
                resting = self._resting_relative()
                if resting is None:
                    break
                self.park(resting)
            sequence = self._waiting.pop(self._running)
            sequence.slot, held = self._cache.take(self._keying.reusable(sequence))
            sequence.computed = sequence.cached = sequence.keys[held - 1].end if held else 0
            self._running.append(sequence)

    def _resting_relative(self) -> Sequence | None:
        """The longest idle of those that a relative of waits.

        So the branches of one call never wait for each other to be parked, and calls that each have
        slots and wait for more do not hold each other up.
        """
        resting = [sequence for sequence in self._running if sequence.idle]
        if not resting:
            return None
        families = self._waiting.families
        relatives = [sequence for sequence in resting if sequence.request.family in families]
        return min(relatives, key=lambda sequence: sequence.last_step, default=None)

    def _free(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._cache.give_back(sequence.slot, sequence.computed)
        self._waiting.settle(sequence)
        sequence.slot = -1

    def _length(self, sequence: Sequence, place: int, chunks: int) -> int:
        """Tokens of so many chunks, the first of which begins at a place."""
        fork, end = sequence.request.fork, len(sequence.request.prompt)
        if place >= end:
            rest = len(sequence.tokens) - place
            return min(chunks * self._chunk, rest) if self._calls.cuts_freely else 1
        if fork is not None and place < fork:
            end = fork
        return min(chunks * self._chunk, end - place)

    def _copy(self, sequence: Sequence, held: int) -> None:
        self._cache.copy(sequence.slot, sequence.keys[:held])
        tokens = sequence.keys[held - 1].end
        sequence.cached += tokens - sequence.computed
        sequence.computed = tokens


def _is_ready(sequence: Sequence) -> bool:
    """Whether it has something to compute and somebody who reads it."""
    return not sequence.paused and not sequence.idle


def _is_decoding(sequence: Sequence) -> bool:
    """Whether its last token alone is not computed yet."""
    return len(sequence.tokens) - sequence.computed == 1
