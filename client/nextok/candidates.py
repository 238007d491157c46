"""Tokens that could come next: values that are read from their message when somebody looks.

A step lists ten of them and more, and who only shows its text never looks at one. So what they
cost is paid by who reads them. Knows no gRPC; the message is anything with the fields' names.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, overload

# Names a type that the fields called `bytes` would hide.
_Bytes = builtins.bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could come next, with both of its probabilities.

    Attributes:
        id: Id in the vocabulary.
        token: Its text. Bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: The tokenizer's own bytes for it.
        logprob: Log probability in the model's raw distribution.
        rank: Place in the raw distribution, 1 for the most likely token.
        prob: Probability that the sampler gave it, after penalties, temperature and filters;
            0 where a filter removed it.
        kept: Whether the filters left it in.
    """

    id: int
    token: str
    bytes: _Bytes
    logprob: float
    rank: int
    prob: float
    kept: bool


class _Message(Protocol):
    """What a candidate is read from."""

    @property
    def id(self) -> int: ...
    @property
    def token(self) -> str: ...
    @property
    def bytes(self) -> _Bytes: ...
    @property
    def logprob(self) -> float: ...
    @property
    def rank(self) -> int: ...
    @property
    def prob(self) -> float: ...
    @property
    def kept(self) -> bool: ...


class Candidates(Sequence[Candidate]):
    """Tokens that could come next; equal to a tuple of the same ones, and hashed as one.

    Args:
        messages: What they are read from, when first looked at.
    """

    __slots__ = ("_messages", "_values")

    def __init__(self, messages: Iterable[_Message] = ()) -> None:
        self._messages: Iterable[_Message] | None = messages
        self._values: tuple[Candidate, ...] = ()

    def _read(self) -> tuple[Candidate, ...]:
        messages = self._messages
        if messages is not None:
            self._values = tuple(
                [
                    Candidate(m.id, m.token, m.bytes, m.logprob, m.rank, m.prob, m.kept)
                    for m in messages
                ]
            )
            # The message goes with it. Last, so that another thread finds the values.
            self._messages = None
        return self._values

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Candidates, tuple)):
            return self._read() == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def __reduce__(self) -> tuple[Callable[..., Candidates], tuple[Any, ...]]:
        return Candidates, (self._read(),)


NO_CANDIDATES: Final = Candidates()
