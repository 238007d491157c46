"""Where a distribution is cut: top-k, then top-p, then min-p.

Knows logits in descending order and the formulas. Knows nothing of requests and graphs.

Each filter looks at what the one before left, renormalised, and each leaves a prefix of the
tokens in descending order (ties by lower id). With weights w_i = exp((logit_i - largest) / T):

- top-k keeps the first k (A. Fan et al., "Hierarchical neural story generation", 2018);
- top-p keeps the fewest n with w_1 + ... + w_n >= p * (the sum of all w that top-k left)
  (A. Holtzman et al., "The curious case of neural text degeneration", 2020);
- min-p keeps those with w_i >= min_p * w_1, and w_1 is 1
  (M. Nguyen et al., "Turning up the heat: min-p sampling", 2025).
"""

from dataclasses import dataclass

import numpy as np

from nextok_server.logits import BoolArray, DoubleArray, IntArray, Logits

# How far the graph's float32 sum may be off, relative. A cut that depends on it is made again
# from the whole row.
_MASS_SLACK = 1e-5


def weigh(values: DoubleArray, largest: float, inverse: float) -> DoubleArray:
    """exp((logit - largest) * inverse) of logits (N,), in one new array."""
    weights = values - largest
    weights *= inverse
    np.exp(weights, out=weights)
    return weights


@dataclass(frozen=True, slots=True)
class Limits:
    """The filters' parameters, as in SamplingParams."""

    top_k: int
    top_p: float
    min_p: float


@dataclass(frozen=True, slots=True)
class Cut:
    """What the filters left.

    Attributes:
        value: the smallest shifted logit that is kept.
        last_id: at that value, the highest id that is kept.
        largest: the largest shifted logit.
        mass: sum of the kept tokens' weights.
    """

    value: float
    last_id: int
    largest: float
    mass: float

    def keeps(self, ids: IntArray, values: DoubleArray) -> BoolArray:
        """Which of the tokens (N,) with these shifted logits (N,) are kept."""
        kept: BoolArray = (values > self.value) | ((values == self.value) & (ids <= self.last_id))
        return kept


def cut_head(
    logits: Logits, ids: IntArray, values: DoubleArray, inverse: float, limits: Limits
) -> Cut | None:
    """Finds the cut from the known most likely tokens.

    Args:
        logits: where those come from.
        ids: (L,) the most likely tokens, descending.
        values: (L,) their shifted logits.
        inverse: 1 / temperature.
        limits: of the filters.

    Returns:
        None where the cut, or the sum of what it keeps, does not follow from these tokens.
    """
    if not len(ids):
        return None
    largest = float(values[0])
    whole = logits.head_is_whole
    if 0 < limits.top_k <= len(ids):
        ids, values, whole = ids[: limits.top_k], values[: limits.top_k], True
    weights = weigh(values, largest, inverse)
    cumulative = np.cumsum(weights)
    mass: float | None
    if whole:
        mass = float(cumulative[-1])
    elif 0 < limits.top_k < logits.size:
        mass = None
    else:
        mass = logits.mass(largest, inverse)
        if mass is not None and _keeps_all(limits):
            return Cut(-np.inf, -1, largest, max(mass, float(cumulative[-1])))
    kept = _count(weights, cumulative, mass, whole, limits)
    if kept is None:
        return None
    return Cut(float(values[kept - 1]), int(ids[kept - 1]), largest, float(cumulative[kept - 1]))


def cut_row(logits: Logits, inverse: float, limits: Limits) -> Cut:
    """Finds the cut from all tokens.

    Raises:
        ValueError: no token is allowed.
    """
    values = logits.whole()
    largest = float(values.max(initial=-np.inf))
    if largest == -np.inf:
        raise ValueError("no token is left to choose from")
    if 0 < limits.top_k < len(values):
        ordered = np.partition(values, -limits.top_k)[-limits.top_k :]
        ordered = ordered[ordered > -np.inf]
        mass = float(weigh(ordered, largest, inverse).sum())
    else:
        weights = weigh(values, largest, inverse)
        mass = float(weights.sum())
        if _keeps_all(limits):
            return Cut(-np.inf, -1, largest, mass)
        if limits.top_p >= 1:
            kept = weights >= limits.min_p
            every_id = len(logits.row.logprobs)
            return Cut(float(values[kept].min()), every_id, largest, float(weights[kept].sum()))
        # Tokens below this bound hold less than 1 - top_p together: spares sorting most of them.
        ordered = values[weights >= (1 - limits.top_p) * mass / len(values)]
    ordered = np.sort(ordered)[::-1]
    weights = weigh(ordered, largest, inverse)
    cumulative = np.cumsum(weights)
    count = _count(weights, cumulative, mass, True, limits)
    assert count is not None
    value = float(ordered[count - 1])
    ties = count - int(np.searchsorted(-ordered, -value))
    last_id = logits.id_at(int(np.flatnonzero(values == value)[ties - 1]))
    return Cut(value, last_id, largest, float(cumulative[count - 1]))


def _keeps_all(limits: Limits) -> bool:
    """Whether top-p and min-p leave everything in."""
    return limits.top_p >= 1 and limits.min_p <= 0


def _count(
    weights: DoubleArray, cumulative: DoubleArray, mass: float | None, whole: bool, limits: Limits
) -> int | None:
    """How many tokens top-p and min-p leave, or None where it cannot be told.

    Args:
        weights: (L,) descending.
        cumulative: (L,) their running sum.
        mass: sum of the weights of all that top-k left, L tokens or more; None where unknown.
        whole: whether no token besides these L can be kept, and `mass` is exact.
        limits: top_p and min_p are looked at.
    """
    length = len(weights)
    beyond = length if whole else length + 1
    counts = [beyond]
    if limits.min_p > 0:
        count = int(np.searchsorted(-weights, -limits.min_p, side="right"))
        counts.append(count if count < length else beyond)
    if limits.top_p < 1:
        if mass is None:
            return None
        slack = 0.0 if whole else _MASS_SLACK
        target = limits.top_p * mass
        count = int(np.searchsorted(cumulative, target * (1 - slack)))
        if count != int(np.searchsorted(cumulative, target * (1 + slack))):
            return None
        counts.append(min(count + 1, beyond))
    least = min(counts)
    return least if least <= length else None
