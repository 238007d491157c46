"""Encodes generated tokens and candidates in protobuf's wire format, in compiled code.

Knows the records that src/steps.cpp reads. Does not know what is served.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from itertools import accumulate
from struct import Struct
from typing import Final

from nextok_kernels import library_path

__all__ = ["CANDIDATE", "FORCED", "HAS_ALLOWED_MASS", "STEP", "StepEncoder"]

CANDIDATE: Final = Struct("<ififi")
"""A candidate's record: id, logprob, rank, prob, kept."""

STEP: Final = Struct("<4I7fId4I")
"""The head of a step's record: index, choice, id, rank; logprob, prob, entropy, top_mass,
tail_mass, margin, allowed_mass; flags; elapsed_seconds; how many top candidates, chosen candidates,
bytes of delta and whole-vocabulary floats come behind it, in this order."""

FORCED: Final = 1
HAS_ALLOWED_MASS: Final = 2

_FIRST_CAPACITY = 1 << 16


class _Tokens(ctypes.Structure):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("text_offsets", ctypes.c_void_p),
        ("bytes", ctypes.c_char_p),
        ("byte_offsets", ctypes.c_void_p),
        ("count", ctypes.c_uint32),
    )


class StepEncoder:
    """Encodes records. For one thread.

    Args:
        texts: What each token's field `token` says, UTF-8, by id. Of other tokens, nothing is said.
        pieces: Its field `bytes`.
    """

    def __init__(self, texts: Sequence[bytes], pieces: Sequence[bytes]) -> None:
        assert len(texts) == len(pieces)
        # Not CDLL: giving the interpreter up for a microsecond, and waiting to have it back, would
        # take longer than the call.
        library = ctypes.PyDLL(str(library_path()))
        self._text_offsets, self._byte_offsets = _offsets(texts), _offsets(pieces)
        self._tokens = _Tokens(
            b"".join(texts),
            ctypes.addressof(self._text_offsets),
            b"".join(pieces),
            ctypes.addressof(self._byte_offsets),
            len(texts),
        )
        self._steps = _declared(library.nextok_encode_steps)
        self._candidates = _declared(library.nextok_encode_candidates)
        self._out = ctypes.create_string_buffer(_FIRST_CAPACITY)

    def steps(self, field: int, records: bytes) -> bytes:
        """The entries of a repeated field of steps.

        Args:
            field: The field's number.
            records: Any number of them; see `STEP`.
        """
        return self._encode(self._steps, field, records)

    def candidates(self, field: int, records: bytes) -> bytes:
        """The same for candidates; see `CANDIDATE`."""
        return self._encode(self._candidates, field, records)

    def _encode(self, call: ctypes._NamedFuncPointer, field: int, records: bytes) -> bytes:
        tokens = ctypes.byref(self._tokens)
        size: int = call(field, records, len(records), tokens, self._out, len(self._out))
        if size > len(self._out):
            self._out = ctypes.create_string_buffer(size)
            call(field, records, len(records), tokens, self._out, size)
        return ctypes.string_at(self._out, size)


def _declared(call: ctypes._NamedFuncPointer) -> ctypes._NamedFuncPointer:
    call.restype = ctypes.c_size_t
    call.argtypes = (
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.POINTER(_Tokens),
        ctypes.c_void_p,
        ctypes.c_size_t,
    )
    return call


def _offsets(texts: Iterable[bytes]) -> ctypes.Array[ctypes.c_uint32]:
    ends = [0, *accumulate(map(len, texts))]
    return (ctypes.c_uint32 * len(ends))(*ends)
