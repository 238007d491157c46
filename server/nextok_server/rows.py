"""The distributions of one step, row by row, and what most requests want of them.

Knows the model's outputs and what is told of a distribution. Does not know sequences.

Rows are read between two runs of the graph, while the other processors wait. Nearly all requests
change nothing of a row but by temperature and filters, and their next token is among the row's most
likely ones: compiled code chooses it, and says what is told of them.
"""

from __future__ import annotations

import math

import numpy as np
from nextok_kernels.sampling import MOST_CANDIDATES, Chooser, Chosen, pack_request

from nextok_server.candidates import NONE, Candidate, Candidates
from nextok_server.events import Distribution
from nextok_server.model import Distributions
from nextok_server.sampling import Row, SamplingParams, inverse_temperature


class Rows:
    """The rows of a step.

    Args:
        outputs: Of the model, R rows with K candidates each; valid until the next step.
        chooser: Of the thread that reads them.
    """

    def __init__(self, outputs: Distributions, chooser: Chooser) -> None:
        self._outputs = outputs
        self._chooser = chooser
        self._k = outputs.top_ids.shape[1]

    def at(self, index: int, params: SamplingParams) -> Row:
        """Row `index`, as views of the outputs; computed for such parameters."""
        outputs = self._outputs
        top = outputs.top_logprobs[index]
        # At temperature 1 the sum over the vocabulary is known: the probabilities add up to 1.
        mass = (
            math.exp(-float(top[0]))
            if params.temperature == 1.0
            else float(outputs.temperature_mass[index])
        )
        return Row(
            outputs.logprobs[index],
            top,
            outputs.top_ids[index],
            float(outputs.logit_max[index]),
            mass,
            float(outputs.entropy[index]),
        )

    def choose(
        self, index: int, params: SamplingParams, position: int, top: int
    ) -> tuple[Candidate, Distribution] | None:
        """What `sampling` would draw from row `index` for parameters that change no logits.

        Args:
            index: Of the row.
            params: Of them, temperature, filters and seed are looked at.
            position: Of the token, for the draw.
            top: How many of the most likely tokens are told.

        Returns:
            The token, and what it was chosen from. None where the row's K most likely tokens do not
            settle it.
        """
        if self._k > MOST_CANDIDATES:
            return None
        told = min(top, self._k)
        chosen = self._chooser.choose(
            self._outputs.packed, request_of(index, params, position, told)
        )
        return None if chosen is None else described(chosen)


def request_of(index: int, params: SamplingParams, position: int, told: int) -> bytes:
    """What compiled code is asked of row `index`; arguments as those of `Rows.choose`."""
    greedy = params.greedy
    return pack_request(
        index,
        told=told,
        greedy=greedy,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        inverse_temperature=1.0 if greedy else inverse_temperature(params),
        seed=params.seed,
        position=position,
    )


def described(chosen: Chosen) -> tuple[Candidate, Distribution]:
    """A token that compiled code chose, and what it was chosen from."""
    token_id, logprob, rank, prob, entropy, top_mass, margin, records = chosen
    distribution = Distribution(
        Candidates(records), NONE, entropy, top_mass, max(0.0, 1.0 - top_mass), margin, None
    )
    return Candidate(token_id, logprob, rank, prob, True), distribution


def top_mass(top_logprobs: np.ndarray) -> float:
    """Probability of a row's most likely tokens (N,) together, at most 1."""
    total = 0.0
    for logprob in top_logprobs.tolist():
        total += math.exp(logprob)
    return min(1.0, total)


def margin(top_logprobs: np.ndarray) -> float:
    """Difference of the two largest of a row (K,); infinite where there is but one."""
    return float(top_logprobs[0] - top_logprobs[1]) if len(top_logprobs) > 1 else math.inf
