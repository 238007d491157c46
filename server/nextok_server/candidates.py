"""Tokens with both of their probabilities, as they are told.

Knows how they are kept: as records that are encoded without being taken apart, since most are told
and never looked at. Does not know how they are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
from nextok_kernels.steps import CANDIDATE

RECORD = np.dtype(
    [("token_id", "<i4"), ("logprob", "<f4"), ("rank", "<i4"), ("prob", "<f4"), ("kept", "<i4")]
)
"""A candidate as `nextok_kernels.steps.CANDIDATE` has it."""


class Candidate(NamedTuple):
    """A token with both of its probabilities.

    Attributes:
        token_id: in the vocabulary.
        logprob: natural log of its probability in the raw distribution.
        rank: its place there, from 1, ties by lower id.
        prob: what the sampler gave it, after penalties, temperature and filters.
        kept: whether the filters left it in.
    """

    token_id: int
    logprob: float
    rank: int
    prob: float
    kept: bool


class Candidates(Sequence[Candidate]):
    """Candidates in their order.

    Attributes:
        records: one after the other.
    """

    __slots__ = ("records",)

    def __init__(self, records: bytes = b"") -> None:
        self.records = records

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> Candidates:
        """Keeps candidates, whose numbers become 32 bits wide."""
        return cls(b"".join(CANDIDATE.pack(*candidate) for candidate in candidates))

    def __len__(self) -> int:
        return len(self.records) // CANDIDATE.size

    def __iter__(self) -> Iterator[Candidate]:
        for token_id, logprob, rank, prob, kept in CANDIDATE.iter_unpack(self.records):
            yield Candidate(token_id, logprob, rank, prob, kept != 0)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...

    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidates) and self.records == other.records

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        return f"Candidates.of({list(self)!r})"


NONE = Candidates()
"""Where nothing was asked for."""
