"""Steps that follow each other: what is chosen in one is what the next one computes.

Knows the structure of src/course.h, and how one token is chosen. Does not know requests, or who
computes the steps.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence

from nextok_kernels.sampling import CHOICE, NOT_SETTLED, Chosen, chosen_at, function, told_of
from nextok_kernels.steps import CANDIDATE

__all__ = ["BatchChooser", "Interrupt"]


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
        self._begin = function("nextok_begin", ctypes.c_void_p, ctypes.c_uint32, ctypes.c_double)
        self._go_on = function("nextok_go_on", ctypes.c_void_p)
        self._advance = function("nextok_advance", ctypes.c_void_p)
        self._rows = len(requests)
        self._told = [told_of(request) for request in requests]
        size = CHOICE.size + max(self._told, default=0) * CANDIDATE.size
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
        chosen = chosen_at(choices, row * self._choice_bytes, self._told[row])
        return None if chosen.token_id == NOT_SETTLED else chosen
