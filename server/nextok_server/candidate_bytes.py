"""Candidates in protobuf's wire format, written without a message for each.

Knows: the fields of nextok.v1.Candidate. Does not know: which message they become part of.

A step lists ten candidates and more, so that most of what it takes to build its message went into
theirs. What a token always says of itself is encoded by protobuf, once; the few numbers that
change are packed behind it. tests/server/test_candidate_bytes.py compares with protobuf's own.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable

from nextok.v1 import types_pb2 as types
from nextok_server.sampling import Candidate
from nextok_server.tokenizer import Tokenizer
from nextok_server.wire_format import FIXED32, LENGTH, VARINT, tag, varint

# From so many on, a number or a length takes two bytes.
_TWO_BYTES = 0x80


def _tag(name: str, wire_type: int) -> int:
    return tag(types.Candidate.DESCRIPTOR.fields_by_name[name].number, wire_type)[0]


_LOGPROB, _RANK = _tag("logprob", FIXED32), _tag("rank", VARINT)
_PROB, _KEPT = _tag("prob", FIXED32), _tag("kept", VARINT)
_REMOVED = struct.Struct("<BfBB")
_DRAWABLE = struct.Struct("<BfBBBfBB")


class CandidateBytes:
    """Encodes candidates.

    Args:
        tokenizer: Has each token's text and bytes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # By id: at most one entry for each token of the vocabulary.
        self._tokens: dict[int, bytes] = {}
        # By field and id: what comes before the numbers of one that may be drawn.
        self._heads: defaultdict[int, dict[int, bytes]] = defaultdict(dict)

    def encode(self, field: int, candidates: Iterable[Candidate]) -> bytes:
        """The entries of a repeated field of candidates, for `MergeFromString` of its message.

        Args:
            field: The field's number, at most 15.
            candidates: In their order.
        """
        heads = self._heads[field]
        parts: list[bytes] = []
        for candidate in candidates:
            token_id, logprob, rank, prob, kept = candidate
            if kept and rank < _TWO_BYTES:
                head = heads.get(token_id) or self._head(field, token_id)
                numbers = _DRAWABLE.pack(_LOGPROB, logprob, _RANK, rank, _PROB, prob, _KEPT, 1)
            else:
                if rank < _TWO_BYTES and prob == 0.0:
                    numbers = _REMOVED.pack(_LOGPROB, logprob, _RANK, rank)
                else:
                    numbers = self._encoded(candidate)
                head = self._begun(field, token_id, len(numbers))
            parts += (head, numbers)
        return b"".join(parts)

    def _head(self, field: int, token_id: int) -> bytes:
        """All but the numbers of one that may be drawn: they are of one size."""
        head = self._heads[field][token_id] = self._begun(field, token_id, _DRAWABLE.size)
        return head

    def _begun(self, field: int, token_id: int, numbers: int) -> bytes:
        """An entry up to its numbers, which take so many bytes."""
        token = self._tokens.get(token_id) or self._token(token_id)
        return bytes((field << 3 | LENGTH,)) + varint(len(token) + numbers) + token

    def _token(self, token_id: int) -> bytes:
        """What a token says of itself wherever it is a candidate."""
        message = types.Candidate(
            id=token_id,
            token=self._tokenizer.token_text(token_id),
            bytes=self._tokenizer.token_bytes(token_id),
        )
        encoded = self._tokens[token_id] = message.SerializeToString()
        return encoded

    @staticmethod
    def _encoded(candidate: Candidate) -> bytes:
        """The numbers of any candidate."""
        _, logprob, rank, prob, kept = candidate
        return types.Candidate(logprob=logprob, rank=rank, prob=prob, kept=kept).SerializeToString()
