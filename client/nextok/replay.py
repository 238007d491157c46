"""A recording beside the same generation run again: where they differ first.

Knows what has to be the same. Does not know how a generation is run.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from nextok.recording import FINISH_FIELDS, Recording
from nextok.transcript import Transcript
from nextok.values import PromptInfo

ARTIFACT_FIELD: Final = "artifact_sha256"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that is not the same.

    Attributes:
        step: Number of the step in its completion; None where it is not about one.
        field: `id` or `logprob` of a step, a field of `Finish`, or `artifact_sha256`, where
            the server has another model and the run was given up.
        recorded: What the recording has; None where it has no such step or value.
        replayed: What came now; likewise.
    """

    step: int | None
    field: str
    recorded: str | int | float | None
    replayed: str | int | float | None


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of running a recording again.

    Attributes:
        identical: Whether artifact, token ids, the bits of their log probabilities, the finish
            and the digest are the same.
        difference: The first difference; None where there is none.
        steps: How many steps came.
        digest: The digest that came; None where none did.
    """

    identical: bool
    difference: Difference | None
    steps: int
    digest: str | None


def other_artifact(recording: Recording, prompt: PromptInfo) -> Replay | None:
    """Returns the result where the server has another model; None where it has the same."""
    if prompt.artifact_sha256 == recording.artifact_sha256:
        return None
    told = Difference(None, ARTIFACT_FIELD, recording.artifact_sha256, prompt.artifact_sha256)
    return Replay(False, told, 0, None)


def compare(recording: Recording, transcript: Transcript) -> Replay:
    """Returns the result of a run that has ended."""
    difference = _in_steps(recording, transcript) or _in_finish(recording, transcript)
    finish = transcript.finish
    return Replay(
        identical=difference is None,
        difference=difference,
        steps=len(transcript.arrived),
        digest=finish.digest if finish else None,
    )


def float32_bits(value: float) -> str:
    """Returns the bits of a float32 as eight hexadecimal digits."""
    return struct.pack(">f", value).hex()


def _in_steps(recording: Recording, transcript: Transcript) -> Difference | None:
    for recorded, step in zip_longest(recording.steps, transcript.arrived):
        if step is None:
            return Difference(recorded.index, "id", recorded.id, None)
        if recorded is None:
            return Difference(step.index, "id", None, step.id)
        if recorded.id != step.id:
            return Difference(step.index, "id", recorded.id, step.id)
        if float32_bits(recorded.logprob) != float32_bits(step.logprob):
            return Difference(step.index, "logprob", recorded.logprob, step.logprob)
    return None


def _in_finish(recording: Recording, transcript: Transcript) -> Difference | None:
    for field in FINISH_FIELDS:
        recorded = getattr(recording.finish, field)
        replayed = getattr(transcript.finish, field, None)
        if recorded != replayed:
            return Difference(None, field, recorded, replayed)
    return None
