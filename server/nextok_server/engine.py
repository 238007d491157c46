"""One synchronous step: plan, forward, sample, commit.

Knows: the scheduler, the model, the sampler. Does not know: text, gRPC, threads.
"""

from __future__ import annotations

import time

from nextok_server.distribution import advance
from nextok_server.model import Chunk, Distributions, Model
from nextok_server.reading import read_chunk, wanted_columns
from nextok_server.sampling import SamplingParams, inverse_temperature
from nextok_server.scheduler import Scheduler, Work
from nextok_server.sequence import Event, Sequence
from nextok_server.verification import Draft

Events = list[tuple[Sequence, list[Event]]]


class Engine:
    """Runs sequences through the model. Everything here happens on one thread."""

    def __init__(self, model: Model, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._model = model

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return self.scheduler.has_work

    @property
    def has_excess(self) -> bool:
        """Whether steps with nothing else to do would give memory back."""
        return self.scheduler.has_excess

    def cancel(self, sequence: Sequence) -> None:
        """Drops a sequence, unless it has already ended."""
        if not sequence.finished:
            sequence.finished = True
            self.scheduler.remove(sequence)

    def step(self) -> Events:
        """Computes some prompts' next chunks, some drafts, and one token of all others.

        Returns:
            What became known, by sequence; empty where there was nothing to do. A sequence
            whose last event has a finish reason holds no slot any more.
        """
        plan = self.scheduler.plan()
        events: Events = []
        if plan.prefill:
            events.extend(self._prefill(plan.prefill))
        for drafts in plan.verify:
            events.extend(self._verify(drafts))
        if plan.decode:
            events.extend(self._decode(plan.decode))
        for sequence, produced in events:
            sequence.produced += len(produced)
            if sequence.finished:
                self.scheduler.remove(sequence)
        return events

    def _prefill(self, works: list[Work]) -> Events:
        """Computes chunks of prompts; a prompt's last one yields the first token."""
        chunks = []
        for work in works:
            _mark_started(work.sequence)
            start = work.sequence.computed
            tokens = work.sequence.tokens[start : start + work.length]
            wanted = wanted_columns(work.sequence.request, start, work.length)
            chunks.append(Chunk(work.sequence.slot, start, tokens, wanted))
        params = [work.sequence.request.sampling for work in works]
        outputs = self._model.prefill(
            chunks,
            [inverse_temperature(p) for p in params],
            logit_max=any(_needs_logit_max(p) for p in params),
            temperature_mass=any(_needs_temperature_mass(p) for p in params),
        )
        events: Events = []
        row = 0
        for work, chunk in zip(works, chunks, strict=True):
            self.scheduler.note_computed(work)
            events.append((work.sequence, read_chunk(work.sequence, chunk, outputs, row)))
            row += len(chunk.wanted)
        return events

    def _verify(self, drafts: list[Draft]) -> Events:
        """Computes drafts behind their sequences' last tokens, and keeps what was right."""
        params = [draft.sequence.request.sampling for draft in drafts]
        chunks = []
        for draft in drafts:
            sequence = draft.sequence
            tokens = [*sequence.tokens[sequence.computed :], *draft.tokens]
            chunks.append(Chunk(sequence.slot, sequence.computed, tokens, range(len(tokens))))
        outputs = self._model.prefill(
            chunks,
            [inverse_temperature(p) for p in params],
            logit_max=any(_needs_logit_max(p) for p in params),
            temperature_mass=any(_needs_temperature_mass(p) for p in params),
        )
        events: Events = []
        row = 0
        for draft in drafts:
            events.append((draft.sequence, _read_draft(draft, outputs, row)))
            row += len(draft.tokens) + 1
        return events

    def _decode(self, sequences: list[Sequence]) -> Events:
        """Computes one token of each sequence, and chooses its next one where it has no other."""
        chunks = []
        for sequence in sequences:
            _mark_started(sequence)
            place = sequence.computed
            tokens = sequence.tokens[place : place + 1]
            chunks.append(Chunk(sequence.slot, place, tokens, range(1)))
        params = [sequence.request.sampling for sequence in sequences]
        outputs = self._model.decode(
            chunks,
            [inverse_temperature(p) for p in params],
            logit_max=any(_needs_logit_max(p) for p in params),
            temperature_mass=any(_needs_temperature_mass(p) for p in params),
        )
        events: Events = []
        for row, (sequence, chunk) in enumerate(zip(sequences, chunks, strict=True)):
            sequence.computed += 1
            events.append((sequence, read_chunk(sequence, chunk, outputs, row)))
        return events


def _read_draft(draft: Draft, outputs: Distributions, row: int) -> list[Event]:
    """The steps up to the first token that was drafted wrong, whose distributions begin at `row`.

    Each token is chosen as it would be one at a time. What the cache holds behind the last one
    that was right is written over by the next pass.
    """
    sequence, drafter = draft.sequence, draft.sequence.drafter
    assert drafter is not None
    accepted = sequence.accepted
    sequence.drafted += len(draft.tokens)
    events: list[Event] = []
    for token in (*draft.tokens, None):
        sequence.computed += 1
        events.append(advance(sequence, outputs, row + len(events), token))
        if sequence.finished or sequence.tokens[-1] != token:
            break
    drafter.settle(len(draft.tokens), sequence.accepted - accepted)
    return events


def _mark_started(sequence: Sequence) -> None:
    if not sequence.started_at:
        sequence.started_at = time.monotonic()


def _needs_logit_max(params: SamplingParams) -> bool:
    return params.repetition_penalty != 1.0


def _needs_temperature_mass(params: SamplingParams) -> bool:
    return params.temperature not in (0.0, 1.0)
