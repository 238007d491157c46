"""Steps and candidates as encoded fields of the messages that hold them.

Knows the records that compiled code encodes. Does not know the messages' other fields.

It is done for every token, on the cores that the model runs on: a message of protobuf's for each
step and candidate would take many times as long. tests/server/test_step_bytes.py compares with
protobuf's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from nextok_kernels.steps import CANDIDATE, FORCED, HAS_ALLOWED_MASS, STEP, StepEncoder

from nextok_server.candidates import Candidates
from nextok_server.events import Step
from nextok_server.tokenizer import Tokenizer


class StepBytes:
    """Encodes steps and candidates.

    Args:
        tokenizer: Has each token's text and bytes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = range(tokenizer.vocabulary_size)
        self._encoder = StepEncoder(
            [tokenizer.token_text(token_id).encode() for token_id in ids],
            [tokenizer.token_bytes(token_id) for token_id in ids],
        )

    def steps(self, field: int, records: Iterable[bytes]) -> bytes:
        """The entries of a repeated field of steps.

        Args:
            field: The field's number.
            records: Of the steps; see `record`.
        """
        return self._encoder.steps(field, b"".join(records))

    def candidates(self, field: int, candidates: Candidates) -> bytes:
        """The entries of a repeated field of candidates."""
        return self._encoder.candidates(field, candidates.records)


def record(step: Step, delta: str, elapsed_seconds: float, choice: int = 0) -> bytes:
    """What is encoded of a step.

    Args:
        step: The token, and what it was taken from.
        delta: The text that it lets out.
        elapsed_seconds: From the request to it.
        choice: Number of its completion.
    """
    token_id, logprob, rank, prob, _ = step.token
    top, chosen, entropy, top_mass, tail_mass, margin, full, allowed_mass = step.distribution
    flags = FORCED if step.forced else 0
    if allowed_mass is None:
        allowed_mass = 0.0
    else:
        flags |= HAS_ALLOWED_MASS
    text = delta.encode()
    head = STEP.pack(
        step.index,
        choice,
        token_id,
        rank,
        logprob,
        prob,
        entropy,
        top_mass,
        tail_mass,
        margin,
        allowed_mass,
        flags,
        elapsed_seconds,
        len(top.records) // CANDIDATE.size,
        len(chosen.records) // CANDIDATE.size,
        len(text),
        0 if full is None else len(full),
    )
    if full is None:
        return b"".join((head, top.records, chosen.records, text))
    return b"".join((head, top.records, chosen.records, text, full.astype("<f4").tobytes()))
