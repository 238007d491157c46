"""The requests of a run, drawn before anything is sent.

Pure: a seed and a run's number make a plan, the same on every machine. Lengths, arrivals and
whether a request has the shared prefix depend on the seed alone, so all runs of a sweep, and
their repeats, do the same work. The prompts' tokens depend on the run's number too: no run
finds the state of its prompts kept from an earlier one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from nextok.bench.settings import Settings


class Phase(StrEnum):
    """What a request is there for."""

    WARMUP = "warmup"
    MEASURED = "measured"
    FILLER = "filler"  # keeps the load up until the last measured request has ended


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request.

    Attributes:
        phase: What it is there for.
        arrival: Open loop: seconds after the first possible moment that it is due. Else 0.
        prompt: Its tokens.
        max_tokens: Length of its completion.
    """

    phase: Phase
    arrival: float
    prompt: tuple[int, ...]
    max_tokens: int


def plan(settings: Settings, *, run: int, vocabulary: Sequence[int]) -> Iterator[PlannedRequest]:
    """Yields a run's requests without end: warm-up, measured, then fillers.

    Args:
        settings: What to draw.
        run: Number of the run.
        vocabulary: The ids that prompts are made of.
    """
    prefix_random = Random(f"{settings.seed} prefix {run}")
    prefix = tuple(prefix_random.choices(vocabulary, k=settings.prefix_tokens))
    arrivals = _arrivals(settings)
    for index in itertools.count():
        random = Random(f"{settings.seed} lengths {index}")
        length = settings.prompt_tokens.draw(random)
        max_tokens = settings.output_tokens.draw(random)
        start = prefix if random.random() < settings.prefix_share else ()
        tokens = Random(f"{settings.seed} tokens {run} {index}")
        own = tokens.choices(vocabulary, k=length - len(start))
        yield PlannedRequest(
            _phase(index, settings), next(arrivals), start + tuple(own), max_tokens
        )


def _arrivals(settings: Settings) -> Iterator[float]:
    """Yields the times of a Poisson process: the gaps are exponential and independent.

    Every rate has the same pattern, only faster or slower.
    """
    if settings.request_rate is None:
        yield from itertools.repeat(0.0)
        return
    random = Random(f"{settings.seed} arrivals")
    elapsed = 0.0
    while True:
        yield elapsed / settings.request_rate
        elapsed += random.expovariate(1.0)


def _phase(index: int, settings: Settings) -> Phase:
    if index < settings.warmup:
        return Phase.WARMUP
    measured = index < settings.warmup + settings.requests
    return Phase.MEASURED if measured else Phase.FILLER
