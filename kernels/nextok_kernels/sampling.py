"""Chooses rows' next tokens from their most likely ones, in compiled code.

Knows the structures of src/sampling.h. Does not know requests, or steps that follow each other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from nextok_kernels import library_path
from nextok_kernels.steps import CANDIDATE

__all__ = [
    "CHOICE",
    "MOST_CANDIDATES",
    "NOT_SETTLED",
    "Chooser",
    "Chosen",
    "chosen_at",
    "function",
    "pack_outputs",
    "pack_request",
    "told_of",
]

MOST_CANDIDATES: Final = 256
"""Of one row."""
NOT_SETTLED: Final = -1
"""Where a row's most likely tokens do not tell which one is next."""

_OUTPUTS = Struct("<4Q2I")
_REQUEST = Struct("<4I3d2Q")
CHOICE: Final = Struct("<ifif3d")
"""What is told of a token that was chosen; records of candidates follow."""


class Chosen(NamedTuple):
    """A token, and what it was chosen from.

    Attributes:
        token_id: In the vocabulary.
        logprob: Natural log of its probability in the raw distribution.
        rank: Its place there, from 1.
        prob: What it was drawn with.
        entropy: Of the raw distribution, nats.
        top_mass: Probability of the candidates together, at most 1.
        margin: Difference of the two largest log probabilities.
        candidates: Their records; see `nextok_kernels.steps.CANDIDATE`.
    """

    token_id: int
    logprob: float
    rank: int
    prob: float
    entropy: float
    top_mass: float
    margin: float
    candidates: bytes


def pack_outputs(
    top_logprobs: int, top_ids: int, entropy: int, temperature_mass: int, *, k: int, vocabulary: int
) -> bytes:
    """The model's outputs for `Chooser.choose`: the arrays' addresses, which have to stay valid.

    Args:
        top_logprobs: float32 (R, K), descending, ties by lower id.
        top_ids: int64 (R, K).
        entropy: float32 (R,).
        temperature_mass: float32 (R,).
        k: K; rows that have more than `MOST_CANDIDATES` cannot be chosen from.
        vocabulary: V.
    """
    return _OUTPUTS.pack(top_logprobs, top_ids, entropy, temperature_mass, k, vocabulary)


def pack_request(
    row: int,
    *,
    told: int,
    greedy: bool,
    top_k: int,
    top_p: float,
    min_p: float,
    inverse_temperature: float,
    seed: int,
    position: int,
) -> bytes:
    """What is asked of one row.

    Args:
        row: Number of the row.
        told: Candidates that are described, at most K.
        greedy: Whether the most likely token is taken. Nothing below is looked at then.
        top_k: How many tokens to keep; 0 keeps all.
        top_p: Sum of probabilities to keep.
        min_p: Least probability to keep, as a fraction of the largest.
        inverse_temperature: As the row's `temperature_mass` was computed with.
        seed: Of the draw, 64 bits.
        position: Of the token.
    """
    return _REQUEST.pack(
        *(row, told, greedy, top_k, inverse_temperature, top_p, min_p, seed, position)
    )


class Chooser:
    """Chooses tokens. For one thread."""

    def __init__(self) -> None:
        self._call = function("nextok_choose", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        self._memory = bytearray(CHOICE.size + MOST_CANDIDATES * CANDIDATE.size)
        self._choice = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)

    def choose(self, outputs: bytes, request: bytes) -> Chosen | None:
        """Chooses a token from one row.

        Args:
            outputs: See `pack_outputs`.
            request: See `pack_request`.

        Returns:
            None where the row's K most likely tokens do not settle it.
        """
        if not self._call(outputs, request, self._choice):
            return None
        return chosen_at(self._memory, 0, told_of(request))


@cache
def function(name: str, *argtypes: type[ctypes._SimpleCData]) -> Callable[..., int]:  # type: ignore[type-arg]
    """A function of the library."""
    # Not CDLL, which would give the interpreter up for a microsecond and wait to have it back.
    call = getattr(ctypes.PyDLL(str(library_path())), name)
    call.restype = ctypes.c_int
    call.argtypes = argtypes
    return call


def told_of(request: bytes) -> int:
    """Candidates that a packed request has described."""
    return int(_REQUEST.unpack(request)[1])


def chosen_at(memory: bytes | bytearray, start: int, told: int) -> Chosen:
    """What was chosen, with as many candidates as are told."""
    candidates = start + CHOICE.size
    records = bytes(memory[candidates : candidates + told * CANDIDATE.size])
    return Chosen(*CHOICE.unpack_from(memory, start), records)
