"""One synchronous step: plan, forward, sample, commit.

Knows: the scheduler, the model, the sampler. Does not know: text, gRPC, threads.
"""

from __future__ import annotations

import time

from nextok_server.distribution import advance, score
from nextok_server.model import Chunk, Model
from nextok_server.sampling import SamplingParams, inverse_temperature
from nextok_server.scheduler import Scheduler
from nextok_server.sequence import Event, PromptScore, Sequence

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

    def cancel(self, sequence: Sequence) -> None:
        """Drops a sequence, unless it has already ended."""
        if not sequence.finished:
            sequence.finished = True
            self.scheduler.remove(sequence)

    def step(self) -> Events:
        """Computes one prompt chunk and one token of every running sequence.

        Returns:
            What became known, by sequence; empty where there was nothing to do. A sequence
            whose last event has a finish reason holds no slot any more.
        """
        plan = self.scheduler.plan()
        events: Events = []
        if plan.prefill is not None:
            events.append((plan.prefill, self._prefill(plan.prefill, plan.length)))
        if plan.decode:
            events.extend(self._decode(plan.decode))
        for sequence, produced in events:
            sequence.produced += len(produced)
            if sequence.finished:
                self.scheduler.remove(sequence)
        return events

    def _prefill(self, sequence: Sequence, length: int) -> list[Event]:
        """Computes a chunk of a prompt; the last one yields the first token."""
        _mark_started(sequence)
        request, start = sequence.request, sequence.computed
        end = start + length
        is_last = end == len(request.prompt)
        if request.outputs.prompt:
            wanted = range(length)
        else:
            wanted = range(length - 1, length) if is_last else range(0)
        chunk = Chunk(sequence.slot, start, sequence.tokens[start:end], wanted)
        outputs = self._model.prefill(
            chunk,
            inverse_temperature(request.sampling),
            logit_max=_needs_logit_max(request.sampling),
            temperature_mass=_needs_temperature_mass(request.sampling),
        )
        sequence.computed = end
        events: list[Event] = []
        if request.outputs.prompt:
            if start == 0:
                events.append(PromptScore(0, request.prompt[0]))
            known = min(end + 1, len(request.prompt))
            for position in range(start + 1, known):
                events.append(score(sequence, position, outputs, position - start - 1))
        if is_last:
            events.append(advance(sequence, outputs, len(wanted) - 1))
        return events

    def _decode(self, sequences: list[Sequence]) -> Events:
        """Computes one token of each sequence and chooses its next one."""
        for sequence in sequences:
            _mark_started(sequence)
        params = [sequence.request.sampling for sequence in sequences]
        outputs = self._model.decode(
            [Chunk(s.slot, s.computed, s.tokens[s.computed :]) for s in sequences],
            [inverse_temperature(p) for p in params],
            logit_max=any(_needs_logit_max(p) for p in params),
            temperature_mass=any(_needs_temperature_mass(p) for p in params),
        )
        events: Events = []
        for row, sequence in enumerate(sequences):
            produced: list[Event] = []
            if sequence.request.outputs.prompt and sequence.computed == 0:
                produced.append(PromptScore(0, sequence.tokens[0]))
            sequence.computed += 1
            produced.append(advance(sequence, outputs, row))
            events.append((sequence, produced))
        return events


def _mark_started(sequence: Sequence) -> None:
    if not sequence.started_at:
        sequence.started_at = time.monotonic()


def _needs_logit_max(params: SamplingParams) -> bool:
    return params.repetition_penalty != 1.0


def _needs_temperature_mass(params: SamplingParams) -> bool:
    return params.temperature not in (0.0, 1.0)
