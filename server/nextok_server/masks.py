"""Which tokens a constraint leaves in at one place.

Knows arrays over the vocabulary. Knows nothing of grammars, requests and filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A sum over what is removed tells little of what is left once it is most of the whole.
_MOST_REMOVED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The tokens that may be chosen.

    Attributes:
        allowed: bool (V,), true for those.
        is_sparse: whether they are at most half of the vocabulary.
        ids: int64, ascending: the allowed ones where it is sparse, otherwise the removed ones, so
            that work is done for the fewer of them.
    """

    allowed: NDArray[np.bool_]
    is_sparse: bool
    ids: NDArray[np.int64]

    @classmethod
    def of(cls, allowed: NDArray[np.bool_]) -> Mask:
        """Makes a mask of bool (V,)."""
        is_sparse = 2 * int(np.count_nonzero(allowed)) <= len(allowed)
        return cls(allowed, is_sparse, np.flatnonzero(allowed if is_sparse else ~allowed))

    @property
    def is_empty(self) -> bool:
        """Whether no token is left."""
        return self.is_sparse and not len(self.ids)

    def without(self, token_ids: frozenset[int]) -> Mask:
        """The same, less some tokens."""
        allowed = self.allowed.copy()
        allowed[list(token_ids)] = False
        return Mask.of(allowed)

    def mass(self, logprobs: NDArray[np.float32]) -> float:
        """Probability of the allowed tokens together, given float32 log probabilities (V,)."""
        listed = _mass(logprobs, self.ids)
        if self.is_sparse:
            return min(1.0, listed)
        if listed < _MOST_REMOVED:
            return 1.0 - listed
        return min(1.0, _mass(logprobs, np.flatnonzero(self.allowed)))


def _mass(logprobs: NDArray[np.float32], ids: NDArray[np.int64]) -> float:
    # In float32 a term is off by 1e-7 of itself, as the log probabilities are that it is made of.
    return float(np.exp(logprobs[ids]).sum(dtype=np.float64))
