"""A row's logits after bias, penalties, banned tokens and mask.

Knows what the graph gives for a row and which tokens a request changes. Knows nothing of
temperature and filters. Changes touch few tokens, so the order of the most likely ones and the
sum over the vocabulary follow from the graph's own without a pass over the row.

Logits here are shifted so that an unchanged token's is its log probability: softmax and order do
not see a shift, and penalties, which do, are applied to the logits as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextok_server.sampling_params import SamplingParams, needs_occurrences

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_NO_IDS: IntArray = np.empty(0, np.int64)
_NO_VALUES: DoubleArray = np.empty(0, np.float64)
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
    """

    logprobs: FloatArray
    top_logprobs: FloatArray
    top_ids: IntArray
    logit_max: float
    temperature_mass: float

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
        changed: (M,) the new shifted logits of those; -inf where banned.
        mask: (V,) which tokens are allowed, or None where all are.
    """

    row: Row
    changed_ids: IntArray
    changed: DoubleArray
    mask: BoolArray | None

    def at(self, ids: IntArray) -> DoubleArray:
        """Shifted logits of some tokens, (N,) for ids (N,); -inf where not allowed."""
        values = self.row.logprobs[ids].astype(np.float64)
        if len(self.changed_ids):
            places, found = _find(ids, self.changed_ids)
            values[found] = self.changed[places[found]]
        if self.mask is not None:
            values[~self.mask[ids]] = -np.inf
        return values

    def whole(self) -> DoubleArray:
        """Shifted logits of all tokens, (V,); -inf where not allowed."""
        values = self.row.logprobs.astype(np.float64)
        values[self.changed_ids] = self.changed
        if self.mask is not None:
            values[~self.mask] = -np.inf
        return values

    def head(self) -> tuple[IntArray, DoubleArray]:
        """The most likely allowed tokens, as many as are known without looking at the row.

        Returns:
            ids (L,) and shifted logits (L,), descending, ties by lower id. L may be 0.
        """
        row = self.row
        if self.mask is None and not len(self.changed_ids):
            return row.top_ids, row.top_logprobs.astype(np.float64)
        _, found = _find(row.top_ids, self.changed_ids)
        ids = np.concatenate((row.top_ids[~found], self.changed_ids))
        values = np.concatenate((row.top_logprobs[~found].astype(np.float64), self.changed))
        known = values > -np.inf
        if not row.head_is_whole:
            # Unchanged tokens outside the top K come after the last of it, wherever that is now.
            last, last_id = float(row.top_logprobs[-1]), int(row.top_ids[-1])
            known &= (values > last) | ((values == last) & (ids <= last_id))
        if self.mask is not None:
            known &= self.mask[ids]
        ids, values = ids[known], values[known]
        order = np.lexsort((ids, -values))
        return ids[order], values[order]

    def mass(self, largest: float, inverse: float) -> float | None:
        """Sum of exp((logit - largest) * inverse) over the allowed tokens, from the graph's.

        Args:
            largest: the largest shifted logit.
            inverse: 1 / temperature.

        Returns:
            The sum, or None where the graph's tells too little: there is a mask, or most of what
            the graph summed in float32 belongs to tokens that lost it.
        """
        if self.mask is not None:
            return None
        row = self.row
        if not len(self.changed_ids):
            return row.temperature_mass
        raw_largest = float(row.top_logprobs[0])
        exponent = (raw_largest - largest) * inverse
        if exponent > _LARGEST_EXPONENT:
            return None
        before = row.logprobs[self.changed_ids].astype(np.float64)
        before = np.exp((before - raw_largest) * inverse)
        after = np.exp((self.changed - largest) * inverse)
        scale = float(np.exp(exponent))
        mass = (row.temperature_mass - float(before.sum())) * scale + float(after.sum())
        return mass if 2 * mass >= row.temperature_mass * scale else None


def adjust(
    row: Row,
    params: SamplingParams,
    occurrences: Occurrences | None,
    banned: IntArray | None,
    mask: BoolArray | None,
) -> Logits:
    """Applies logit bias, then repetition, presence and frequency penalties, then bans and mask.

    The repetition penalty is that of N. S. Keskar et al., "CTRL" (2019), section 4.1, in the form
    that also handles negative logits; presence and frequency penalties are OpenAI's.

    Args:
        row: the graph's outputs.
        params: of the request.
        occurrences: needed where a penalty is on.
        banned: ids that may not be chosen, in any order.
        mask: (V,) true for the tokens that may be chosen.
    """
    penalties = needs_occurrences(params)
    if not penalties and not params.logit_bias and banned is None:
        return Logits(row, _NO_IDS, _NO_VALUES, mask)
    biased = np.array([token for token, _ in params.logit_bias], np.int64)
    touched = [biased] if banned is None else [biased, banned]
    if penalties:
        assert occurrences is not None, "penalties need the tokens that were there before"
        touched.append(occurrences.seen_ids)
    ids = np.unique(np.concatenate(touched))
    values = row.logprobs[ids].astype(np.float64)
    values[np.searchsorted(ids, biased)] += [bias for _, bias in params.logit_bias]
    if penalties and occurrences is not None:
        _penalize(ids, values, row.logit_max - float(row.top_logprobs[0]), params, occurrences)
    if banned is not None:
        values[np.searchsorted(ids, banned)] = -np.inf
    return Logits(row, ids, values, mask)


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


def _find(ids: IntArray, among: IntArray) -> tuple[IntArray, BoolArray]:
    """Where ids (N,) stand in the ascending `among` (M,), and whether they do."""
    if not len(among):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
    places = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return places, among[places] == ids
