"""One synchronous step: plan, forward, sample, commit; or the last one once more.

Knows: the scheduler, the model, the sampler. Does not know: text, gRPC, threads.
"""

from __future__ import annotations

import time

from nextok_kernels.course import Interrupt
from nextok_kernels.sampling import Chooser

from nextok_server.branching import go_on
from nextok_server.distribution import advance_at
from nextok_server.events import Event
from nextok_server.model import Chunk, Model
from nextok_server.multi_step import MultiStep
from nextok_server.orders import Fork, Order
from nextok_server.reading import read_chunk, read_prompt, wanted_columns
from nextok_server.rows import Rows
from nextok_server.sampling import Row, SamplingParams, inverse_temperature
from nextok_server.scheduler import Scheduler
from nextok_server.sequence import Sequence
from nextok_server.tally import Tally
from nextok_server.work import Work

Events = list[tuple[Sequence, list[Event]]]


class Engine:
    """Runs sequences through the model. Everything here happens on one thread.

    Attributes:
        tally: Counts what is done.
    """

    def __init__(self, model: Model, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.tally = Tally()
        self._model = model
        self._chooser = Chooser()
        # Open sequences with orders that were not looked at yet, in the order of those.
        self._ordered: dict[Sequence, None] = {}
        # Those that hold a row but no slot. As many rows as there are slots, and no more.
        self._lent: set[Sequence] = set()
        # Steps like the last one, while nothing else is to be done, and how many run meanwhile.
        self._multi_step: MultiStep | None = None
        self._running = 0
        self._interrupt = Interrupt()

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._ordered) or self.scheduler.has_work

    @property
    def goes_on(self) -> bool:
        """Whether the next step is like the last one, if nothing comes in; then there is work."""
        return self._multi_step is not None

    @property
    def has_excess(self) -> bool:
        """Whether steps with nothing else to do would give memory back."""
        return self.scheduler.has_excess

    def interrupt(self) -> None:
        """Has a step that gives several tokens end soon. May be called by any thread."""
        self._interrupt.set()

    def heed(self) -> None:
        """Says that whoever interrupted before this is heard before the next step."""
        self._interrupt.clear()

    def cancel(self, sequence: Sequence) -> None:
        """Drops a sequence, unless it has already ended."""
        if not sequence.finished:
            sequence.finished = True
            self._ordered.pop(sequence, None)
            self._lent.discard(sequence)
            self.scheduler.remove(sequence)

    def order(self, sequence: Sequence, order: Order | Fork) -> None:
        """Gives an open sequence something to do after what it has."""
        if not sequence.finished:
            sequence.orders.append(order)
            self._ordered[sequence] = None

    def park(self, sequence: Sequence) -> None:
        """Frees an open sequence's slot, unless it is at work; its next order gets it another."""
        if not sequence.at_work and sequence not in self._ordered:
            self._lent.discard(sequence)
            self.scheduler.park(sequence)

    def step(self) -> Events:
        """Computes some prompts' next chunks, some drafts, and one token of all others.

        Where nothing but the next tokens of the same sequences is to be computed, there may be
        several of each, until somebody is to be told of them or somebody interrupts.

        Returns:
            What became known, by sequence; empty where there was nothing to do. A sequence
            whose last event has a finish reason holds no slot any more.
        """
        began = time.monotonic()
        again, self._multi_step = self._multi_step, None
        if again is None:
            return self._plan_and_compute(began)
        if self._ordered or self.scheduler.running != self._running or self.scheduler.admits:
            return self._known(again.rest()) + self._plan_and_compute(began)
        ended = again.step()
        self.tally.note_tokens(len(again.sequences), began, ended)
        if again.over:
            return self._known(again.rest())
        self._multi_step = again
        return self._known(again.due(ended[-1]))

    def _plan_and_compute(self, began: float) -> Events:
        events: Events = []
        tokens = 0
        ordered, self._ordered = self._ordered, {}
        for sequence in ordered:
            if not sequence.at_work:
                events.extend(self._go_on(sequence, sequence.row))
        calls = self.scheduler.plan()
        for works in calls:
            tokens += sum(work.size for work in works)
            events.extend(self._compute(works))
        self._known(events)
        if events:
            self.tally.note_step(events, tokens, len(events), began, time.monotonic())
        # Others that run are idle, and stay so until they are ordered to do something.
        if len(calls) == 1 and len(calls[0]) == self.scheduler.active:
            self._multi_step = MultiStep.begin(
                self._model, calls[0], self.scheduler, self._interrupt
            )
            self._running = self.scheduler.running
        return events

    def _known(self, events: Events) -> Events:
        """Takes in that something is told of sequences, maybe their ends."""
        for sequence, produced in events:
            sequence.produced += len(produced)
            if sequence.finished:
                self.scheduler.remove(sequence)
        return events

    def _compute(self, works: list[Work]) -> Events:
        """Makes one call of the model, and reads what it tells of each sequence."""
        for work in works:
            self._mark_started(work.sequence)
        chunks = [_chunk(work) for work in works]
        params = [work.sequence.sampling for work in works]
        rows = Rows(
            self._model.forward(
                chunks,
                [inverse_temperature(p) for p in params],
                logit_max=any(_needs_logit_max(p) for p in params),
                temperature_mass=any(_needs_temperature_mass(p) for p in params),
            ),
            self._chooser,
        )
        events: Events = []
        row = 0
        for work, chunk in zip(works, chunks, strict=True):
            events.extend(self._read(work, chunk, rows, row))
            row += len(chunk.wanted)
        return events

    def _read(self, work: Work, chunk: Chunk, rows: Rows, row: int) -> Events:
        """What becomes known with a work, whose distributions begin at `row`."""
        sequence = work.sequence
        if work.draft:
            return [(sequence, self._read_draft(work, rows, row))]
        self.scheduler.note_computed(work)
        if not sequence.request.open:
            return [(sequence, read_chunk(sequence, chunk, rows, row))]
        told: Events = []
        if sequence.request.outputs.prompt:
            told.append((sequence, read_prompt(sequence, chunk, rows, row)))
        if sequence.idle:
            # Others are computed before it is told what to do with it.
            last = rows.at(row + len(chunk.wanted) - 1, sequence.sampling).copy()
            told += self._go_on(sequence, last)
        return told

    def _go_on(self, sequence: Sequence, row: Row | None) -> Events:
        """Has an open sequence do what it is ordered to, and those computed that need it."""
        events = go_on(sequence, row, lend=len(self._lent) < self._model.slots)
        for changed, _ in events:
            self._lent.discard(changed)
            if changed.finished:
                continue
            if changed.slot >= 0:
                self.scheduler.rewind(changed)
            elif changed.at_work:
                self.scheduler.add(changed)
            elif changed.row is not None:
                self._lent.add(changed)
        return events

    def _read_draft(self, work: Work, rows: Rows, row: int) -> list[Event]:
        """The steps up to the first token that was drafted wrong; their rows begin at `row`.

        Each token is chosen as it would be one at a time. What the cache holds behind the last one
        that was right is written over by the next pass.
        """
        sequence, drafter = work.sequence, work.sequence.drafter
        assert drafter is not None
        accepted = sequence.accepted
        sequence.drafted += len(work.draft)
        events: list[Event] = []
        for token in (*work.draft, None):
            sequence.computed += 1
            sequence.processed += 1
            events.append(advance_at(sequence, rows, row + len(events), token))
            if sequence.finished or sequence.tokens[-1] != token:
                break
        drafter.settle(len(work.draft), sequence.accepted - accepted)
        self.tally.drafted += len(work.draft)
        self.tally.accepted += sequence.accepted - accepted
        return events

    def _mark_started(self, sequence: Sequence) -> None:
        if not sequence.started_at:
            sequence.started_at = time.monotonic()
            self.tally.note_started(sequence)


def _chunk(work: Work) -> Chunk:
    """The tokens of a work, and where a distribution is wanted."""
    sequence, start = work.sequence, work.sequence.computed
    tokens = sequence.tokens[start : start + work.length] + work.draft
    is_decoded = work.length == 1
    wanted = range(work.size) if is_decoded else wanted_columns(sequence, start, work.size)
    return Chunk(sequence.slot, start, tokens, wanted)


def _needs_logit_max(params: SamplingParams) -> bool:
    return params.repetition_penalty != 1.0


def _needs_temperature_mass(params: SamplingParams) -> bool:
    return params.temperature not in (0.0, 1.0)
