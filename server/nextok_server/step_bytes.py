"""Generated tokens in protobuf's wire format, written without a message for each.

Knows: the fields of nextok.v1.Step. Does not know: which message they become part of.

It is done for every token, on the cores that the model runs on, and takes less than a message of
protobuf's that is given one field after the other and then written. tests/server/test_step_bytes.py
compares with protobuf's own.
"""

from __future__ import annotations

import struct

from nextok.v1 import types_pb2 as types
from nextok_server.candidate_bytes import CandidateBytes
from nextok_server.events import Step
from nextok_server.tokenizer import Tokenizer
from nextok_server.wire_format import FIXED32, FIXED64, LENGTH, VARINT, entry, floats, tag, varint

_FIELDS = types.Step.DESCRIPTOR.fields_by_name


def _tag(name: str, wire_type: int) -> bytes:
    return tag(_FIELDS[name].number, wire_type)


def _packer(*fields: tuple[str, int, str]) -> struct.Struct:
    """Of a run of fields: of each its tag, of one byte or two, and its value."""
    formats = (f"{len(_tag(name, wire_type))}s{code}" for name, wire_type, code in fields)
    return struct.Struct("<" + "".join(formats))


_INDEX, _CHOICE = _tag("index", VARINT), _tag("choice", VARINT)
_RANK, _DELTA = _tag("rank", VARINT), _tag("delta", LENGTH)
_FORCED = _tag("forced", VARINT) + b"\1"
_LOGPROB, _PROB = _tag("logprob", FIXED32), _tag("prob", FIXED32)
_ENTROPY, _SURPRISAL = _tag("entropy", FIXED32), _tag("surprisal", FIXED32)
_TOP_MASS, _TAIL_MASS = _tag("top_mass", FIXED32), _tag("tail_mass", FIXED32)
_MARGIN, _ALLOWED_MASS = _tag("margin", FIXED32), _tag("allowed_mass", FIXED32)
_ELAPSED = _tag("elapsed_seconds", FIXED64)
_TOP, _CHOSEN = _FIELDS["top_logprobs"].number, _FIELDS["token_logprobs"].number
_FULL = _FIELDS["full_logprobs"].number

_CHANCE = _packer(("logprob", FIXED32, "f"), ("prob", FIXED32, "f"))
_SUMMARY = _packer(
    ("entropy", FIXED32, "f"),
    ("surprisal", FIXED32, "f"),
    ("top_mass", FIXED32, "f"),
    ("tail_mass", FIXED32, "f"),
    ("margin", FIXED32, "f"),
    ("elapsed_seconds", FIXED64, "d"),
)
_FLOAT = struct.Struct("<f")


class StepBytes:
    """Encodes steps.

    Args:
        tokenizer: Has each token's text and bytes.
        candidates: Encodes what a step lists.
    """

    def __init__(self, tokenizer: Tokenizer, candidates: CandidateBytes) -> None:
        self._tokenizer = tokenizer
        self._candidates = candidates
        # By id: at most one entry for each token of the vocabulary.
        self._tokens: dict[int, bytes] = {}

    def encode(
        self, field: int, step: Step, delta: str, elapsed_seconds: float, *, choice: int = 0
    ) -> bytes:
        """An entry of a repeated field of steps.

        Args:
            field: The field's number.
            step: The token, and what it was taken from.
            delta: The text that it lets out.
            elapsed_seconds: From the request to it.
            choice: Number of its completion.
        """
        token_id, logprob, rank, prob, _ = step.token
        distribution = step.distribution
        parts = [
            _INDEX,
            varint(step.index),
            self._tokens.get(token_id) or self._token(token_id),
            _CHANCE.pack(_LOGPROB, logprob, _PROB, prob),
            _RANK,
            varint(rank),
            _SUMMARY.pack(
                *(_ENTROPY, distribution.entropy, _SURPRISAL, -logprob),
                *(_TOP_MASS, distribution.top_mass, _TAIL_MASS, distribution.tail_mass),
                *(_MARGIN, distribution.margin, _ELAPSED, elapsed_seconds),
            ),
            self._candidates.encode(_TOP, distribution.top),
        ]
        if delta:
            text = delta.encode()
            parts += (_DELTA, varint(len(text)), text)
        if choice:
            parts += (_CHOICE, varint(choice))
        if distribution.chosen:
            parts.append(self._candidates.encode(_CHOSEN, distribution.chosen))
        if distribution.full is not None:
            parts.append(floats(_FULL, distribution.full))
        if step.forced:
            parts.append(_FORCED)
        if distribution.allowed_mass is not None:
            parts += (_ALLOWED_MASS, _FLOAT.pack(distribution.allowed_mass))
        return entry(field, b"".join(parts))

    def _token(self, token_id: int) -> bytes:
        """What a token says of itself."""
        message = types.Step(
            id=token_id,
            token=self._tokenizer.token_text(token_id),
            bytes=self._tokenizer.token_bytes(token_id),
        )
        encoded = self._tokens[token_id] = message.SerializeToString()
        return encoded
