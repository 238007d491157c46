"""A row's logits after bias, penalties, banned tokens and mask.

Knows what the graph gives for a row and which tokens a request changes. Knows nothing of
temperature and filters. Changes touch few tokens, so the order of the most likely ones and the
sum over the vocabulary follow from the graph's own without a pass over the row.

Logits here are shifted so that an unchanged token's is its log probability: softmax and order do
not see a shift, and penalties, which do, are applied to the logits as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nextok_server.masks import Mask
from nextok_server.sampling_params import SamplingParams, needs_occurrences

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_NO_IDS: IntArray = np.empty(0, np.int64)
_NO_VALUES: DoubleArray = np.empty(0, np.float64)
# So many allowed tokens are sorted rather than looked for among the most likely ones.
_SORTED_POOL = 256
# Past this, a sum in float32 tells nothing of what remains, and exp would overflow before long.
_LARGEST_EXPONENT = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What the graph gives for one sequence at one step; the arrays may be views.

    Attributes:
        logprobs: (V,) natural log of the raw distribution.
        top_logprobs: (K,) the largest of them, descending, ties by lower id.
        top_ids: (K,) their token ids.
        logit_max: the largest logit.
        temperature_mass: sum over the vocabulary of
            exp((logprob - largest logprob) * inverse temperature).
        entropy: of the raw distribution, in nats.
    """

    logprobs: FloatArray
    top_logprobs: FloatArray
    top_ids: IntArray
    logit_max: float
    temperature_mass: float
    entropy: float

    def copy(self) -> "Row":
        """The same, with arrays of its own."""
        return replace(
            self,
            logprobs=self.logprobs.copy(),
            top_logprobs=self.top_logprobs.copy(),
            top_ids=self.top_ids.copy(),
        )

    @property
    def head_is_whole(self) -> bool:
        """Whether the top K are the whole vocabulary."""
        return len(self.top_ids) == len(self.logprobs)


@dataclass(frozen=True, slots=True, eq=False)
class Occurrences:
    """Which tokens were there before, for the penalties. All ids are unique.

    Attributes:
        seen_ids: (S,) tokens of the prompt and the completion.
        generated_ids: (G,) tokens of the completion.
        generated_counts: (G,) how often the completion holds each.
    """

    seen_ids: IntArray
    generated_ids: IntArray
    generated_counts: IntArray

    @classmethod
    def of(cls, prompt: Sequence[int], generated: Sequence[int]) -> "Occurrences":
        """Counts the tokens of a prompt and a completion."""
        ids, counts = np.unique(np.asarray(generated, np.int64), return_counts=True)
        seen = np.unique(np.concatenate((np.asarray(prompt, np.int64), ids)))
        return cls(seen, ids, counts.astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """The row with some tokens changed.

    Attributes:
        row: as the graph gave it.
        changed_ids: (M,) unique, ascending.
        changed: (M,) the new shifted logits of those; -inf where removed.
        mask: where a mask leaves few tokens in: those; None where all others than the removed
            ones are allowed.
    """

    row: Row
    changed_ids: IntArray
    changed: DoubleArray
    mask: Mask | None

    @property
    def pool(self) -> IntArray:
        """Ids (P,), ascending, of all tokens that may be allowed: those of `whole`."""
        return np.arange(len(self.row.logprobs)) if self.mask is None else self.mask.ids

    @property
    def size(self) -> int:
        """P, how many tokens the pool has."""
        return len(self.row.logprobs) if self.mask is None else len(self.mask.ids)

    @property
    def head_is_whole(self) -> bool:
        """Whether `head` gives all allowed tokens."""
        return self.row.head_is_whole or (self.mask is not None and self.size <= _SORTED_POOL)

    def at(self, ids: IntArray) -> DoubleArray:
        """Shifted logits of some tokens, (N,) for ids (N,); -inf where not allowed."""
        values = self.row.logprobs[ids].astype(np.float64)
        if len(self.changed_ids):
            places, found = _find(ids, self.changed_ids)
            values[found] = self.changed[places[found]]
        if self.mask is not None:
            values[~self.mask.allowed[ids]] = -np.inf
        return values

    def whole(self) -> DoubleArray:
        """Shifted logits of the pool, (P,); -inf where not allowed."""
        if self.mask is None:
            values = self.row.logprobs.astype(np.float64)
            values[self.changed_ids] = self.changed
            return values
        values = self.row.logprobs[self.mask.ids].astype(np.float64)
        if len(self.changed_ids):
            places, found = _find(self.changed_ids, self.mask.ids)
            values[places[found]] = self.changed[found]
        return values

    def places(self, ids: IntArray) -> IntArray:
        """Where tokens (N,) of the pool stand in it."""
        return ids if self.mask is None else np.searchsorted(self.mask.ids, ids)

    def id_at(self, place: int) -> int:
        """The token at a place of the pool."""
        return place if self.mask is None else int(self.mask.ids[place])

    def head(self) -> tuple[IntArray, DoubleArray]:
        """The most likely allowed tokens, as many as are known without looking at the row.

        Returns:
            ids (L,) and shifted logits (L,), descending, ties by lower id. L may be 0.
        """
        row = self.row
        if self.mask is not None and self.size <= _SORTED_POOL:
            return _sorted(self.mask.ids, self.whole())
        ids, values = row.top_ids, row.top_logprobs.astype(np.float64)
        if self.mask is not None:
            allowed = self.mask.allowed[ids]
            ids, values = ids[allowed], values[allowed]
        if not len(self.changed_ids):
            return ids, values
        _, found = _find(ids, self.changed_ids)
        ids, values = ids[~found], values[~found]
        known = self.changed > -np.inf
        if not known.any():
            return ids, values
        if not row.head_is_whole:
            # Unchanged tokens outside the top K come after the last of it, wherever that is now.
            last, last_id = float(row.top_logprobs[-1]), int(row.top_ids[-1])
            known &= self.changed >= last
            known &= (self.changed > last) | (self.changed_ids <= last_id)
        if self.mask is not None:
            known &= self.mask.allowed[self.changed_ids]
        return _sorted(
            np.concatenate((ids, self.changed_ids[known])),
            np.concatenate((values, self.changed[known])),
        )

    def mass(self, largest: float, inverse: float) -> float | None:
        """Sum of exp((logit - largest) * inverse) over the allowed tokens, from the graph's.

        Args:
            largest: the largest shifted logit.
            inverse: 1 / temperature.

        Returns:
            The sum, or None where the graph's tells too little: most of what the graph summed in
            float32 belongs to tokens that lost it.
        """
        if self.mask is not None:
            return float(np.exp((self.whole() - largest) * inverse).sum())
        row = self.row
        if not len(self.changed_ids):
            return row.temperature_mass
        raw_largest = float(row.top_logprobs[0])
        exponent = (raw_largest - largest) * inverse
        if exponent > _LARGEST_EXPONENT:
            return None
        before = row.logprobs[self.changed_ids].astype(np.float64)
        before = np.exp((before - raw_largest) * inverse)
        left = self.changed[self.changed > -np.inf]
        after = np.exp((left - largest) * inverse)
        scale = float(np.exp(exponent))
        mass = (row.temperature_mass - float(before.sum())) * scale + float(after.sum())
        return mass if 2 * mass >= row.temperature_mass * scale else None


def adjust(
    row: Row,
    params: SamplingParams,
    occurrences: Occurrences | None,
    banned: IntArray | None,
    mask: Mask | None,
) -> Logits:
    """Applies logit bias, then repetition, presence and frequency penalties, then bans and mask.

    The repetition penalty is that of N. S. Keskar et al., "CTRL" (2019), section 4.1, in the form
    that also handles negative logits; presence and frequency penalties are OpenAI's.

    Args:
        row: the graph's outputs.
        params: of the request.
        occurrences: needed where a penalty is on.
        banned: ids that may not be chosen, in any order.
        mask: the tokens that may be chosen; None for all.
    """
    removed, pool = (None, mask) if mask is None or mask.is_sparse else (mask.ids, None)
    penalties = needs_occurrences(params)
    if not penalties and not params.logit_bias and banned is None:
        if removed is None:
            return Logits(row, _NO_IDS, _NO_VALUES, pool)
        # A view of one number: thousands may be removed, and at each token.
        return Logits(row, removed, np.broadcast_to(-np.inf, len(removed)), None)
    biased = np.array([token for token, _ in params.logit_bias], np.int64)
    touched = [biased, *(ids for ids in (banned, removed) if ids is not None)]
    if penalties:
        assert occurrences is not None, "penalties need the tokens that were there before"
        touched.append(occurrences.seen_ids)
    ids = np.unique(np.concatenate(touched))
    values = row.logprobs[ids].astype(np.float64)
    values[np.searchsorted(ids, biased)] += [bias for _, bias in params.logit_bias]
    if penalties and occurrences is not None:
        _penalize(ids, values, row.logit_max - float(row.top_logprobs[0]), params, occurrences)
    for gone in (banned, removed):
        if gone is not None:
            values[np.searchsorted(ids, gone)] = -np.inf
    return Logits(row, ids, values, pool)


def _penalize(
    ids: IntArray, values: DoubleArray, shift: float, params: SamplingParams, before: Occurrences
) -> None:
    """Applies the penalties to shifted logits (M,) of ids (M,), in place."""
    penalty = params.repetition_penalty
    if penalty != 1:
        seen = np.searchsorted(ids, before.seen_ids)
        logits = values[seen] + shift
        values[seen] = np.where(logits > 0, logits / penalty, logits * penalty) - shift
    generated = np.searchsorted(ids, before.generated_ids)
    values[generated] -= params.presence_penalty
    values[generated] -= params.frequency_penalty * before.generated_counts


def _sorted(ids: IntArray, values: DoubleArray) -> tuple[IntArray, DoubleArray]:
    """Tokens that are allowed, (L,) of (N,), descending, ties by lower id."""
    allowed = values > -np.inf
    ids, values = ids[allowed], values[allowed]
    order = np.lexsort((ids, -values))
    return ids[order], values[order]


def _find(ids: IntArray, among: IntArray) -> tuple[IntArray, BoolArray]:
    """Where ids (N,) stand in the ascending `among` (M,), and whether they do."""
    if not len(among):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
    places = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return places, among[places] == ids
