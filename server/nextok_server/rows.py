"""The distributions of one step, row by row, and what most requests want of them for all at once.

Knows the model's outputs and what is told of a distribution. Does not know sequences, nor what a
request asks for.

Where many streams run, reading a step row by row takes long while the other processors wait. Most
requests take the likeliest token and are told of the likeliest ones, so that is put together for
all rows in a few calls.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from nextok_server.candidates import NONE, RECORD, Candidate, Candidates
from nextok_server.events import Distribution
from nextok_server.model import Distributions
from nextok_server.sampling import Row, SamplingParams


class Rows:
    """The rows of a step.

    Args:
        outputs: Of the model, R rows with K candidates each; valid until the next step.
    """

    def __init__(self, outputs: Distributions) -> None:
        self._outputs = outputs
        self._top_masses: dict[int, list[float]] = {}

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

    def likeliest(self, index: int, top: int) -> tuple[Candidate, Distribution]:
        """The most likely token of row `index`, taken, and what is told of the `top` likeliest."""
        top = min(top, self._width)
        if top not in self._top_masses:
            self._top_masses[top] = top_masses(self._outputs.top_logprobs, top)
        top_mass = self._top_masses[top][index]
        start = index * self._width * RECORD.itemsize
        distribution = Distribution(
            Candidates(self._records[start : start + top * RECORD.itemsize]) if top else NONE,
            NONE,
            self._entropies[index],
            top_mass,
            max(0.0, 1.0 - top_mass),
            self._margins[index],
            None,
        )
        return Candidate(self._ids[index], self._logprobs[index], 1, 1.0, True), distribution

    @cached_property
    def _width(self) -> int:
        width: int = self._outputs.top_ids.shape[1]
        return width

    @cached_property
    def _records(self) -> bytes:
        """Of all rows: the candidates where the first of them is taken."""
        records = np.zeros(self._outputs.top_ids.shape, RECORD)
        records["token_id"] = self._outputs.top_ids
        records["logprob"] = self._outputs.top_logprobs
        records["rank"] = np.arange(1, self._width + 1)
        records["prob"][:, 0] = records["kept"][:, 0] = 1
        return records.tobytes()

    @cached_property
    def _entropies(self) -> list[float]:
        entropies: list[float] = self._outputs.entropy.tolist()
        return entropies

    @cached_property
    def _ids(self) -> list[int]:
        ids: list[int] = self._outputs.top_ids[:, 0].tolist()
        return ids

    @cached_property
    def _logprobs(self) -> list[float]:
        logprobs: list[float] = self._outputs.top_logprobs[:, 0].tolist()
        return logprobs

    @cached_property
    def _margins(self) -> list[float]:
        return margins(self._outputs.top_logprobs)


def top_masses(top_logprobs: np.ndarray, count: int) -> list[float]:
    """Of rows (R, K): the probability of the `count` likeliest tokens together, at most 1."""
    if not count:
        return [0.0] * len(top_logprobs)
    probs = np.exp(top_logprobs[:, :count].astype(np.float64))
    masses: list[float] = np.minimum(1.0, probs.cumsum(axis=1)[:, -1]).tolist()
    return masses


def margins(top_logprobs: np.ndarray) -> list[float]:
    """Of rows (R, K): the difference of the two largest; infinite where there is but one."""
    if top_logprobs.shape[1] < 2:
        return [math.inf] * len(top_logprobs)
    differences: list[float] = (top_logprobs[:, 0] - top_logprobs[:, 1]).tolist()
    return differences
