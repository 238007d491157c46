"""What a sampler makes of a distribution, computed here from the model's log probabilities.

Knows the order of the server's filters: logit bias, then presence and frequency penalties, then
temperature, top-k, top-p, min-p. Knows nothing of calls. Everything is done in double precision,
and with what Python itself has: the client has no array library.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

# A temperature below its inverse cuts all but the likeliest as well.
_LARGEST_INVERSE: Final = 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How tokens are chosen, as far as it follows from log probabilities.

    The repetition penalty is not among it: it depends on the logits themselves, which a log
    probability does not tell.

    Attributes:
        temperature: 0 takes the most likely token. Range 0 to 100.
        top_k: Keeps the k most likely tokens; 0 keeps all.
        top_p: Keeps the fewest tokens whose probabilities reach this sum. Over 0, at most 1.
        min_p: Keeps tokens with this fraction of the likeliest's probability. Range 0 to 1.
        presence_penalty: Taken off the logit of each token that was appended before. Range -100
            to 100.
        frequency_penalty: Taken off once for each time that it was. Range -100 to 100.
        logit_bias: Added to the logits of single tokens, by id. Range -100 to 100 each.

    Raises:
        ValueError: A value is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0, 100)
        _check("top_k", self.top_k, 0, 2**32 - 1)
        _check("top_p", self.top_p, 0, 1)
        if self.top_p == 0:
            raise ValueError("top_p: is 0, the range is over 0 to 1")
        _check("min_p", self.min_p, 0, 1)
        _check("presence_penalty", self.presence_penalty, -100, 100)
        _check("frequency_penalty", self.frequency_penalty, -100, 100)
        for token_id, bias in self.logit_bias.items():
            _check(f"logit_bias[{token_id}]", bias, -100, 100)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a sampler draws from: tokens and their weights, which add up to `mass`.

    Attributes:
        ids: Which tokens are kept, most likely first; None where all are, by id.
        logs: Natural logs of the weights.
        weights: Of the tokens, in the order of `ids`.
        mass: Sum of the weights.
    """

    ids: Sequence[int] | None
    logs: Sequence[float]
    weights: Sequence[float]
    mass: float

    def probs(self, token_ids: Iterable[int]) -> list[float]:
        """The probabilities of some tokens, 0 where they are not kept."""
        if self.ids is None:
            return [self.weights[token_id] / self.mass for token_id in token_ids]
        kept = dict(zip(self.ids, self.weights, strict=True))
        return [kept.get(token_id, 0.0) / self.mass for token_id in token_ids]


def weigh(
    logprobs: Sequence[float], settings: Settings, counts: Mapping[int, int] = MappingProxyType({})
) -> Weighed:
    """Applies what is set to the model's log probabilities.

    Args:
        logprobs: Of every token, by id.
        settings: What to apply.
        counts: How often each token was appended before, for the penalties.
    """
    values = _adjusted(logprobs, settings, counts)
    largest = max(values)
    if settings.temperature == 0:
        return Weighed([values.index(largest)], [0.0], [1.0], 1.0)
    # Rounded as the server rounds it.
    inverse = _as_sent(min(1.0 / _as_sent(settings.temperature), _LARGEST_INVERSE))
    logs: Sequence[float] = values
    if inverse != 1.0:
        logs = [(value - largest) * inverse for value in values]
    weights = list(map(math.exp, logs))
    ids = _kept(weights, settings)
    if ids is not None:
        logs, weights = [logs[i] for i in ids], [weights[i] for i in ids]
    return Weighed(ids, logs, weights, sum(weights))


def _adjusted(
    logprobs: Sequence[float], settings: Settings, counts: Mapping[int, int]
) -> Sequence[float]:
    penalized = bool(counts and (settings.presence_penalty or settings.frequency_penalty))
    if not settings.logit_bias and not penalized:
        return logprobs
    values = list(logprobs)
    for token_id, bias in settings.logit_bias.items():
        values[token_id] += _as_sent(bias)
    if penalized:
        presence, frequency = map(_as_sent, (settings.presence_penalty, settings.frequency_penalty))
        for token_id, count in counts.items():
            values[token_id] -= presence + frequency * count
    return values


def _kept(weights: Sequence[float], settings: Settings) -> list[int] | None:
    """Ids that the filters leave in, most likely first, ties by lower id; None for all."""
    top_p, min_p = _as_sent(settings.top_p), _as_sent(settings.min_p)
    cut_by_count = 0 < settings.top_k < len(weights)
    if not cut_by_count and top_p == 1 and min_p == 0:
        return None
    if cut_by_count:
        ids = heapq.nlargest(settings.top_k, range(len(weights)), key=weights.__getitem__)
        mass = sum([weights[i] for i in ids])
    else:
        # Those below either bound are not kept, which spares sorting most of them: such as hold
        # less than 1 - top_p together, and such as min_p cuts.
        mass = sum(weights)
        least = max((1 - top_p) * mass / len(weights), min_p * max(weights))
        ids = [i for i, weight in enumerate(weights) if weight >= least]
        ids.sort(key=weights.__getitem__, reverse=True)
    if top_p < 1:
        ids = ids[: _count(weights, ids, top_p * mass)]
    least = min_p * weights[ids[0]]
    return [i for i in ids if weights[i] >= least]


def _count(weights: Sequence[float], ids: Sequence[int], target: float) -> int:
    """How many of the tokens it takes to reach a mass."""
    reached = 0.0
    for count, token_id in enumerate(ids, 1):
        reached += weights[token_id]
        if reached >= target:
            return count
    return len(ids)


def _as_sent(value: float) -> float:
    """A number as the wire carries it, in single precision."""
    return array("f", (value,))[0]


def _check(name: str, value: float, least: float, largest: float) -> None:
    if not least <= value <= largest:
        raise ValueError(f"{name}: is {value}, the range is {least} to {largest}")
