"""Choosing the next token from a row, and what the choice was made from.

Knows the order of the filters: logit bias -> repetition, presence, frequency penalties -> banned
tokens and mask -> temperature -> top-k -> top-p -> min-p -> one draw. Knows nothing of ONNX
Runtime, of text, of the wire. Functions of their arguments, with no state.

What the graph gives (its K most likely tokens, the sum over the vocabulary at the row's
temperature) settles most requests exactly; the whole row is passed over only where it does not.
Which of the two happens depends on the request and its distribution alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextok_server.candidates import NONE, RECORD, Candidate, Candidates
from nextok_server.filters import Cut, Limits, cut_head, cut_row, weigh
from nextok_server.logits import (
    BoolArray,
    DoubleArray,
    FloatArray,
    IntArray,
    Logits,
    Occurrences,
    Row,
    adjust,
)
from nextok_server.masks import Mask
from nextok_server.philox import uniform
from nextok_server.sampling_params import SamplingParams, inverse_temperature, needs_occurrences

__all__ = [
    "Choice",
    "Filtered",
    "Occurrences",
    "Row",
    "SamplingParams",
    "candidates",
    "draw",
    "filter_row",
    "inverse_temperature",
    "needs_occurrences",
    "rank_of",
    "sample",
    "top_candidates",
    "uniform",
]

# From so many tokens on, to sort the row once is faster than to pass over it for each.
_SORT_RANKS_FROM = 16
# Weights that a draw adds up at a time.
_BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What the sampler draws from. Looks at the row again when asked.

    Attributes:
        logits: of the row.
        inverse: 1 / temperature.
        cut: what is kept.
        head_ids: (H,) the most likely kept tokens, descending; those that are known without the
            whole row.
        head_values: (H,) their shifted logits.
        has_tail: whether tokens outside the head may be kept.
    """

    logits: Logits
    inverse: float
    cut: Cut
    head_ids: IntArray
    head_values: DoubleArray
    has_tail: bool

    def probs(self, ids: IntArray) -> tuple[DoubleArray, BoolArray]:
        """Probabilities (N,) of tokens (N,), 0 where removed, and whether they are kept."""
        values = self.logits.at(ids)
        kept = self.cut.keeps(ids, values)
        return np.where(kept, self._weights(values) / self.cut.mass, 0.0), kept

    def draw(self, u: float) -> int:
        """Inverts the cumulative distribution.

        The order is that of the head, most likely first, and then the other kept tokens by id.

        Args:
            u: uniform in [0, 1).
        """
        target = u * self.cut.mass
        head_mass = 0.0
        if len(self.head_ids):
            cumulative = np.cumsum(self._weights(self.head_values))
            head_mass = float(cumulative[-1])
            if target < head_mass:
                return int(self.head_ids[_invert(cumulative, target)])
        if self.has_tail and self.cut.mass > head_mass:
            # The head and the tail were summed apart: stretch what is left over the tail.
            place = _pick(self._tail(), (target - head_mass) / (self.cut.mass - head_mass))
            if place is not None:
                return self.logits.id_at(place)
        # Only rounding leads here: u was at the very end of what the head holds.
        return int(self.head_ids[_invert(cumulative, np.inf)])

    def _tail(self) -> DoubleArray:
        """Weights (P,) of the pool, those outside the tail taken as 0."""
        values = self.logits.whole()
        weights = self._weights(values)
        if self.cut.value > -np.inf:
            weights *= self.cut.keeps(self.logits.pool, values)
        weights[self.logits.places(self.head_ids)] = 0
        return weights

    def _weights(self, values: DoubleArray) -> DoubleArray:
        """exp((logit - largest) / T) of shifted logits (N,)."""
        return weigh(values, self.cut.largest, self.inverse)


@dataclass(frozen=True, slots=True, eq=False)
class MostLikely:
    """What a greedy request draws from where nothing changed the row: the same, for less.

    Attributes:
        head_ids: (1,) the token.
    """

    head_ids: IntArray

    def probs(self, ids: IntArray) -> tuple[DoubleArray, BoolArray]:
        """See Filtered."""
        kept: BoolArray = ids == self.head_ids
        return kept.astype(np.float64), kept

    def draw(self, u: float) -> int:  # noqa: ARG002 - as Filtered has it
        """See Filtered."""
        return int(self.head_ids[0])


Choice = Filtered | MostLikely


def filter_row(
    row: Row,
    params: SamplingParams,
    *,
    occurrences: Occurrences | None = None,
    banned: IntArray | None = None,
    mask: Mask | None = None,
) -> Choice:
    """Applies everything that a request asks for, up to the draw.

    Args:
        row: the graph's outputs, its `temperature_mass` at `inverse_temperature(params)`.
        params: of the request.
        occurrences: tokens that were there before; needed where `needs_occurrences(params)`.
        banned: int64 ids that may not be chosen.
        mask: the tokens that may be chosen; None for all.

    Raises:
        ValueError: no token is left to choose from.
    """
    logits = adjust(row, params, occurrences, banned, mask)
    if params.greedy and logits.mask is None and not len(logits.changed_ids):
        return MostLikely(row.top_ids[:1])
    inverse = inverse_temperature(params)
    if params.greedy:
        limits = Limits(top_k=1, top_p=1.0, min_p=0.0)
    else:
        limits = Limits(params.top_k, params.top_p, params.min_p)
    ids, values = logits.head()
    cut = cut_head(logits, ids, values, inverse, limits) or cut_row(logits, inverse, limits)
    kept = int(np.count_nonzero(cut.keeps(ids, values)))
    has_tail = kept == len(ids) and not logits.head_is_whole
    return Filtered(logits, inverse, cut, ids[:kept], values[:kept], has_tail)


def draw(params: SamplingParams, filtered: Choice, position: int, stream: int = 0) -> int:
    """The token that belongs to the seed, the position and the stream."""
    # A greedy request keeps one token: the draw has no say.
    return filtered.draw(0.0 if params.greedy else uniform(params.seed, position, stream))


def sample(
    row: Row, params: SamplingParams, filtered: Choice, position: int, stream: int = 0
) -> Candidate:
    """Draws a token and describes it."""
    return candidates(row, filtered, [draw(params, filtered, position, stream)])[0]


def candidates(row: Row, filtered: Choice, ids: Sequence[int]) -> Candidates:
    """Describes tokens, in the order given."""
    if not ids:
        return NONE
    chosen = np.asarray(ids, np.int64)
    return _describe(filtered, chosen, row.logprobs[chosen], rank_of(row, chosen))


def top_candidates(row: Row, filtered: Choice, count: int) -> Candidates:
    """Describes the `count` most likely tokens of the raw distribution, at most K."""
    chosen = row.top_ids[:count]
    return _describe(filtered, chosen, row.top_logprobs[:count], np.arange(1, len(chosen) + 1))


def rank_of(row: Row, ids: IntArray) -> IntArray:
    """Places (N,) of tokens (N,) in the raw distribution, from 1, ties by lower id."""
    matches = ids[:, None] == row.top_ids  # (N, K)
    ranks: IntArray = matches.argmax(axis=1) + 1
    missing = np.flatnonzero(~matches.any(axis=1))
    if not len(missing):
        return ranks
    values = row.logprobs[ids[missing]]
    if len(missing) < _SORT_RANKS_FROM:
        greater = [int(np.count_nonzero(row.logprobs > value)) for value in values]
        tied = [True] * len(missing)
    else:
        ordered = np.sort(row.logprobs)
        ends = np.searchsorted(ordered, values, side="right")
        greater = (len(ordered) - ends).tolist()
        tied = (ends - np.searchsorted(ordered, values) > 1).tolist()
    for place, value, above, is_tied in zip(missing, values, greater, tied, strict=True):
        before = np.count_nonzero(row.logprobs[: ids[place]] == value) if is_tied else 0
        ranks[place] = 1 + above + before
    return ranks


def _describe(filtered: Choice, ids: IntArray, logprobs: FloatArray, ranks: IntArray) -> Candidates:
    records = np.empty(len(ids), RECORD)
    records["token_id"], records["logprob"], records["rank"] = ids, logprobs, ranks
    records["prob"], records["kept"] = filtered.probs(ids)
    return Candidates(records.tobytes())


def _pick(weights: DoubleArray, part: float) -> int | None:
    """First place whose running sum passes a part of the sum of (N,) weights; None if that is 0.

    Sums of blocks come first: a running sum over all would take most of a draw's time.
    """
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)))
    if blocks[-1] <= 0:
        return None
    target = part * float(blocks[-1])
    block = _invert(blocks, target)
    if block:
        target -= float(blocks[block - 1])
    start = block * _BLOCK
    return start + _invert(np.cumsum(weights[start : start + _BLOCK]), target)


def _invert(cumulative: DoubleArray, target: float) -> int:
    """First place whose running sum passes the target, or the last that adds to it."""
    place = int(np.searchsorted(cumulative, target, side="right"))
    if place < len(cumulative):
        return place
    return int(np.searchsorted(cumulative, cumulative[-1]))
