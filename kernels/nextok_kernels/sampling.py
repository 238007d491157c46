"""Chooses rows' next tokens from their most likely ones, in compiled code.

Knows the structures of src/sampling.h and src/course.h. Does not know requests.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from nextok_kernels import library_path
from nextok_kernels.steps import CANDIDATE

__all__ = [
    "MOST_CANDIDATES",
    "NOT_SETTLED",
    "BatchChooser",
    "Chooser",
    "Chosen",
    "Interrupt",
    "pack_outputs",
    "pack_request",
]

MOST_CANDIDATES: Final = 256
"""Of one row."""
NOT_SETTLED: Final = -1
"""Where a row's most likely tokens do not tell which one is next."""

_OUTPUTS = Struct("<4Q2I")
_REQUEST = Struct("<4I3d2Q")
_CHOICE = Struct("<ifif3d")


class _Course(ctypes.Structure):
    """Steps that follow each other; see src/course.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("outputs", "requests", "input_ids", "position_ids")),
        *((name, ctypes.c_void_p) for name in ("choices", "seconds", "ends", "stops")),
        ("begun", ctypes.c_double),
        ("most_seconds", ctypes.c_double),
        *((name, ctypes.c_uint32) for name in ("rows", "choice_bytes", "end_count")),
        *((name, ctypes.c_uint32) for name in ("most", "done", "settled")),
    )


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
        self._call = _function("nextok_choose", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        self._memory = bytearray(_CHOICE.size + MOST_CANDIDATES * CANDIDATE.size)
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
        return _chosen(self._memory, 0, _told(request))


class Interrupt:
    """Has a run of several steps end with the one that is computed. For all threads."""

    def __init__(self) -> None:
        self._byte = ctypes.c_uint8()

    @property
    def address(self) -> int:
        """Where it is looked for: not 0 while it is set."""
        return ctypes.addressof(self._byte)

    def set(self) -> None:
        """Has the run end soon, and each one that begins after that with its first step."""
        self._byte.value = 1

    def clear(self) -> None:
        """Has runs go on again."""
        self._byte.value = 0


class BatchChooser:
    """Chooses a token of each of some rows, step after step. For one thread.

    A graph of nextok's operators computes those steps in one run. Where another one computes them,
    `advance` says after each whether to go on.

    Args:
        requests: One a row, in order; see `pack_request`. Their positions are those of the first
            step, and count up.
        outputs: Where each step's outputs are; see `pack_outputs`.
        input_ids: Address of int64 (R,), which get the tokens that were chosen.
        position_ids: Address of int64 (R,), which count up.
        ends: Tokens behind which a row does not go on.
        interrupt: Ends a run early.
        most: Steps of a run.
    """

    def __init__(
        self,
        requests: Sequence[bytes],
        outputs: bytes,
        *,
        input_ids: int,
        position_ids: int,
        ends: Iterable[int],
        interrupt: Interrupt,
        most: int,
    ) -> None:
        self._begin = _function("nextok_begin", ctypes.c_void_p, ctypes.c_uint32, ctypes.c_double)
        self._go_on = _function("nextok_go_on", ctypes.c_void_p)
        self._advance = _function("nextok_advance", ctypes.c_void_p)
        self._rows = len(requests)
        self._told = [_told(request) for request in requests]
        size = _CHOICE.size + max(self._told, default=0) * CANDIDATE.size
        self._choice_bytes = -(-size // 8) * 8  # as its doubles have to stand
        self._most = most
        self._choices = bytearray(most * self._rows * self._choice_bytes)
        self._seconds = (ctypes.c_double * most)()
        ended = sorted(ends)
        requested = ctypes.create_string_buffer(b"".join(requests))
        places = ctypes.create_string_buffer(outputs)
        end_ids = (ctypes.c_int64 * len(ended))(*ended)
        choices = (ctypes.c_char * len(self._choices)).from_buffer(self._choices)
        # The course only has their addresses.
        self._kept = requested, places, end_ids, choices, interrupt
        self._course = _Course(
            outputs=ctypes.addressof(places),
            requests=ctypes.addressof(requested),
            input_ids=input_ids,
            position_ids=position_ids,
            choices=ctypes.addressof(choices),
            seconds=ctypes.addressof(self._seconds),
            ends=ctypes.addressof(end_ids),
            stops=interrupt.address,
            rows=self._rows,
            choice_bytes=self._choice_bytes,
            end_count=len(ended),
        )
        self._address = ctypes.addressof(self._course)

    def begin(self, most: int, seconds: float) -> None:
        """Begins a run.

        Args:
            most: Steps; no more than those that this was made for.
            seconds: No step begins later than that.
        """
        self._begin(self._address, min(most, self._most), seconds)

    def go_on(self) -> None:
        """Has the next run of a graph on this thread compute all steps, not only its first one."""
        self._go_on(self._address)

    def leave(self) -> None:
        """Has the next run of a graph on this thread compute one step, if it was to go on."""
        self._go_on(None)

    def advance(self) -> bool:
        """Chooses every row's next token, and makes it what the next step computes.

        Returns:
            Whether that is to follow in this run.
        """
        return bool(self._advance(self._address))

    @property
    def seconds(self) -> list[float]:
        """When each of the run's steps was chosen, since the run began."""
        return self._seconds[: self._course.done]

    @property
    def choices(self) -> list[bytes]:
        """What was chosen in each of the run's steps, for `chosen`."""
        size = self._rows * self._choice_bytes
        return [bytes(self._choices[i * size : (i + 1) * size]) for i in range(self._course.done)]

    @property
    def settled(self) -> bool:
        """Whether all rows are settled.

        Where one is not, the run has ended with that step, its input is `NOT_SETTLED`, and the
        token has to be chosen by other means.
        """
        return int(self._course.settled) == self._rows

    def chosen(self, choices: bytes, row: int) -> Chosen | None:
        """What was chosen of a row; None where it is not settled."""
        chosen = _chosen(choices, row * self._choice_bytes, self._told[row])
        return None if chosen.token_id == NOT_SETTLED else chosen


@cache
def _function(name: str, *argtypes: type[ctypes._SimpleCData]) -> Callable[..., int]:  # type: ignore[type-arg]
    # Not CDLL, which would give the interpreter up for a microsecond and wait to have it back.
    call = getattr(ctypes.PyDLL(str(library_path())), name)
    call.restype = ctypes.c_int
    call.argtypes = argtypes
    return call


def _told(request: bytes) -> int:
    """Candidates that a packed request has described."""
    return int(_REQUEST.unpack(request)[1])


def _chosen(memory: bytes | bytearray, start: int, told: int) -> Chosen:
    candidates = start + _CHOICE.size
    records = bytes(memory[candidates : candidates + told * CANDIDATE.size])
    return Chosen(*_CHOICE.unpack_from(memory, start), records)
