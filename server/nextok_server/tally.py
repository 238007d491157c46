"""What a server counts of what it does.

Knows: which figures there are, how to add to them cheaply. Does not know: what they are called
outside, how they are told.

Each figure is written by one thread alone, the engine's or the event loop's, and read by any.
Adding one takes less than a microsecond, and happens once a step and sequence at most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence as Many

from nextok_server.events import Event, Step
from nextok_server.sequence import Sequence

# Bounds of times, in seconds: of steps and gaps, and of what may have to wait.
_SHORT = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)
_LONG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 256, 512, 1024)
# How much one step counts in an average.
_WEIGHT = 0.05
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How often values were in which range.

    Attributes:
        bounds: Upper ends of the ranges, each within; a last one has none.
        counts: Of each range.
        total: Sum of all values.
    """

    def __init__(self, bounds: Many[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Tally:
    """Everything that one server counts.

    Attributes:
        steps: Seconds that a step took.
        step_tokens: Tokens that a step computed.
        step_rows: Sequences that a step computed something of.
        queueing: Seconds from a sequence's arrival to its first computation.
        first_tokens: Seconds from a sequence's arrival to its first token.
        gaps: Seconds between a sequence's tokens; those of one pass share its time.
        generated: Tokens that were drawn.
        prompts: Tokens of prompts whose first token or score is known.
        cached: Those of them that were not computed but taken from others.
        drafted: Tokens that were drafted; `accepted` of them were right.
        answered: Calls by rpc and status.
        refused: Calls by the kind of error that ended them.
        finished: Completions by the reason of their end.
        latencies: Seconds that calls took, by rpc.
        stalls: How often the engine was found to be stuck.
        decode_seconds: Seconds of a step that gives each sequence a token, lately on average.
        fastest_decode_seconds: The same, of the fastest one.
    """

    def __init__(self) -> None:
        self.steps = Histogram(_SHORT)
        self.step_tokens = Histogram(_TOKENS)
        self.step_rows = Histogram(_ROWS)
        self.queueing = Histogram(_LONG)
        self.first_tokens = Histogram(_LONG)
        self.gaps = Histogram(_SHORT)
        self.generated = self.prompts = self.cached = self.drafted = self.accepted = 0
        self.answered: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.latencies: dict[str, Histogram] = {}
        self.stalls = 0
        self.decode_seconds = self.fastest_decode_seconds = 0.0
        # When the last step ended; no sequence drew a token then.
        self._ended = -1.0

    # On the engine's thread.

    def note_started(self, sequence: Sequence) -> None:
        """Counts a sequence whose first computation begins."""
        self.queueing.add(sequence.started_at - sequence.arrived_at)

    def note_step(
        self,
        events: list[tuple[Sequence, list[Event]]],
        tokens: int,
        rows: int,
        began: float,
        ended: float,
    ) -> None:
        """Counts a step: what became known by it, how much it computed, when."""
        self._note_work(tokens, rows, ended - began)
        before, self._ended = self._ended, ended
        again = 0
        for sequence, produced in events:
            # Most have drawn one token in this step and one in the last.
            if sequence.last_drawn_at == before and len(produced) == 1:
                sequence.last_drawn_at = ended
                again += 1
            elif produced:
                self._note_produced(sequence, produced, ended)
        if again:
            self.generated += again
            self.gaps.add(ended - before, again)

    def note_tokens(self, rows: int, began: float, ended: Many[float]) -> None:
        """Counts steps that gave a token to each of the sequences that the last one gave one.

        Args:
            rows: Sequences.
            began: When the first step began.
            ended: When each of them ended, and the next one began.
        """
        for end in ended:
            self._note_work(rows, rows, end - began)
            self.generated += rows
            self.gaps.add(end - self._ended, rows)
            began = self._ended = end

    def _note_work(self, tokens: int, rows: int, seconds: float) -> None:
        self.steps.add(seconds)
        self.step_tokens.add(tokens)
        self.step_rows.add(rows)
        if tokens == rows:
            before = self.decode_seconds or seconds
            self.decode_seconds = before + _WEIGHT * (seconds - before)
            fastest = self.fastest_decode_seconds or seconds
            self.fastest_decode_seconds = min(fastest, seconds)

    def _note_produced(self, sequence: Sequence, produced: list[Event], now: float) -> None:
        if len(produced) == sequence.produced and sequence.started_at:
            self.prompts += len(sequence.request.prompt)
            self.cached += sequence.cached
        drawn = sum(map(_is_drawn, produced))
        self.generated += drawn
        # How long it takes an open one from one token to the next is up to who orders them.
        if not drawn or sequence.request.open:
            return
        if sequence.last_drawn_at:
            self.gaps.add((now - sequence.last_drawn_at) / drawn, drawn)
        else:
            self.first_tokens.add(now - sequence.arrived_at)
            sequence.first_drawn_at = now
        sequence.last_drawn_at = now

    # On the event loop.

    def note_answered(self, rpc: str, status: str, seconds: float) -> None:
        """Counts a call that ended."""
        self.answered[rpc, status] += 1
        if rpc not in self.latencies:
            self.latencies[rpc] = Histogram(_LONG)
        self.latencies[rpc].add(seconds)


def _is_drawn(event: Event) -> bool:
    return isinstance(event, Step) and not event.forced
