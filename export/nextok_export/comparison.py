"""How far one set of distributions is from another.

Knows arithmetic on log probabilities. Knows nothing of where they come from.
"""

import math
from dataclasses import dataclass, field
from typing import Final

import torch

TIE: Final = 1e-5
"""Log probabilities closer than this are one at float32's resolution: torch itself orders such a
pair one way or the other, by the number of threads."""


@dataclass(frozen=True)
class Comparison:
    """A served graph against a reference, over the positions of one scenario.

    The names are those of certificate.json, and docs/artifact.md says what they mean.
    """

    scenario: str
    reference: str
    positions: int
    max_abs_logprob_difference: float
    mean_abs_logprob_difference: float
    mean_kl: float
    top1_agreement: float
    top10_agreement: float
    reference_perplexity: float
    perplexity: float


@dataclass
class Comparer:
    """Sums up differences block by block, so that memory stays bounded."""

    scenario: str
    reference: str
    _positions: int = 0
    _values: int = 0
    _max: float = 0.0
    _sum: float = 0.0
    _kl: float = 0.0
    _top1: int = 0
    _top10: float = 0.0
    _followed: int = 0
    _surprisal: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, expected: torch.Tensor, served: torch.Tensor, following: torch.Tensor) -> None:
        """Takes in the distributions after some positions.

        Args:
            expected: the reference's log probabilities, float64 [n, V].
            served: the served graph's, float64 [n, V].
            following: the tokens that follow, int64 [n] or fewer where the text ends.
        """
        difference = served - expected
        # The terms without a logarithm cancel but for rounding, and keep the sum from falling
        # below 0. In place: every temporary of a block's size costs as much as what fills it.
        p, q = expected.exp(), served.exp()
        self._kl += float(q.sub_(p).sub_(p.mul_(difference)).sum())
        difference.abs_()
        largest = float(difference.max())
        # Once it is not a number it stays so; Python's max() would lose it.
        if not math.isnan(self._max) and not largest <= self._max:
            self._max = largest
        self._sum += float(difference.sum())
        self._values += difference.numel()
        self._positions += len(expected)

        k = min(10, expected.shape[1])
        best, listed = expected.topk(k), served.topk(k).indices
        short = best.values[:, :1] - expected.gather(1, listed[:, :1])
        self._top1 += int((short <= TIE).sum())
        common = best.indices[:, :, None] == listed[:, None, :]
        self._top10 += float(common.sum()) / k

        for i, logprobs in enumerate((expected, served)):
            taken = logprobs[: len(following)].gather(1, following[:, None])
            self._surprisal[i] -= float(taken.sum())
        self._followed += len(following)

    def finish(self) -> Comparison:
        """The figures."""
        perplexities = [math.exp(min(s / max(self._followed, 1), 700)) for s in self._surprisal]
        return Comparison(
            scenario=self.scenario,
            reference=self.reference,
            positions=self._positions,
            max_abs_logprob_difference=self._max,
            mean_abs_logprob_difference=self._sum / self._values,
            mean_kl=self._kl / self._positions,
            top1_agreement=self._top1 / self._positions,
            top10_agreement=self._top10 / self._positions,
            reference_perplexity=perplexities[0],
            perplexity=perplexities[1],
        )
