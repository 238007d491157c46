"""A generation on paper: all that it takes to run it again and to see whether it is the same.

Written as JSON lines, in ASCII:

1. `recording`, the version of this format, 1; `artifact_sha256`; and `request`, a GenerateRequest
   of nextok.v1 in protobuf's JSON with the fields' own names, which has the seed of the draws
   and whether tokens could be drafted. It asks for one completion.
2. A line a step: `index`, `id` and `logprob`. The latter is the float32 that was received,
   written so that it comes back with every bit.
3. `finish`, with the fields of nextok.v1's Finish besides `choice`.

Knows this format and the request's message. Does not know how a generation is read or run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc
from google.protobuf import json_format

from nextok.choices import choice_seed
from nextok.errors import Internal
from nextok.recording_lines import Line, RecordingError, read_lines
from nextok.transcript import Transcript
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import Finish, FinishReason

_VERSION: Final = 1
FINISH_FIELDS: Final = (
    "finish_reason",
    "stop",
    "stop_token_id",
    "eos_token_id",
    "completion_tokens",
    "digest",
)
_REASONS: Final = ", ".join(FinishReason)


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step of a recording.

    Attributes:
        index: Number of the step in its completion, from 0.
        id: Id of the chosen token.
        logprob: Its log probability in the model's raw distribution, a float32.
    """

    index: int
    id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A generation that has ended, and the request that gives it again.

    Attributes:
        artifact_sha256: The artifact that computed it, as in `Model`.
        request: As it was sent, with the seed that was used, and with drafts or without as it was.
            Not to be changed.
        steps: The steps that were received, in order.
        finish: How it ended.
    """

    artifact_sha256: str
    request: pb.GenerateRequest
    steps: tuple[RecordedStep, ...]
    finish: Finish

    def dumps(self) -> str:
        """Returns the recording as JSON lines."""
        request = json_format.MessageToDict(self.request, preserving_proto_field_name=True)
        lines: list[dict[str, Any]] = [
            {
                "recording": _VERSION,
                "artifact_sha256": self.artifact_sha256,
                "request": request,
            }
        ]
        lines += [{"index": s.index, "id": s.id, "logprob": s.logprob} for s in self.steps]
        lines.append({"finish": {name: getattr(self.finish, name) for name in FINISH_FIELDS}})
        return "".join([json.dumps(line, allow_nan=False) + "\n" for line in lines])

    @classmethod
    def loads(cls, data: str | bytes) -> Recording:
        """Reads a recording from JSON lines.

        Raises:
            RecordingError: It is damaged, incomplete, or of another version.
        """
        lines = read_lines(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
        line = next(lines, None)
        if line is None:
            raise RecordingError(1, "", "is missing: there is nothing")
        artifact_sha256, request = _read_head(line)
        steps: list[RecordedStep] = []
        given = len(request.resume_token_ids)
        number = 1
        for line in lines:
            number = line.number
            if "finish" in line.fields:
                finish = _read_finish(line, given + len(steps))
                for extra in lines:
                    extra.refuse("", "is one too many: the finish is the last")
                return cls(artifact_sha256, request, tuple(steps), finish)
            steps.append(_read_step(line, given + len(steps)))
        raise RecordingError(number + 1, "finish", "is missing: the recording is cut off")


def record(request: pb.GenerateRequest, transcript: Transcript, choice: int = 0) -> Recording:
    """Returns the recording of a generation that has ended; of several completions, of one.

    Raises:
        RuntimeError: It has not.
        ValueError: There is no such completion.
        Internal: The server did not say what a recording needs.
    """
    last = max(1, request.n) - 1
    if not 0 <= choice <= last:
        raise ValueError(f"choice: is {choice}, the range is 0 to {last}")
    prompt, finish = transcript.prompt, transcript.finishes.get(choice)
    if prompt is None or finish is None:
        raise RuntimeError("the generation has not ended: read it to its end first")
    if not prompt.artifact_sha256:
        raise Internal(grpc.StatusCode.INTERNAL, "the server did not name its artifact")
    repeatable = pb.GenerateRequest()
    repeatable.CopyFrom(request)
    repeatable.sampling.seed = choice_seed(prompt.seed, choice)
    repeatable.drafts = prompt.drafts
    if last:
        repeatable.ClearField("n")
    steps = [
        RecordedStep(step.index, step.id, step.logprob)
        for step in transcript.arrived
        if step.choice == choice
    ]
    alone = replace(finish, choice=0)
    return Recording(prompt.artifact_sha256, repeatable, tuple(steps), alone)


def _read_head(line: Line) -> tuple[str, pb.GenerateRequest]:
    version = line.take("recording", int)
    if version != _VERSION:
        line.refuse("recording", f"is version {version}, this client reads {_VERSION}")
    artifact_sha256 = line.take_sha256("artifact_sha256")
    request = pb.GenerateRequest()
    try:
        json_format.ParseDict(line.take("request", dict), request)
    except json_format.ParseError as error:
        line.refuse("request", f"is no GenerateRequest: {error}")
    if not request.sampling.HasField("seed"):
        line.refuse("request.sampling.seed", "is missing")
    if request.n > 1:
        line.refuse("request.n", f"is {request.n}, and has to be 1: each completion has its own")
    line.end()
    return artifact_sha256, request


def _read_step(line: Line, expected: int) -> RecordedStep:
    index = line.take_uint32("index")
    if index != expected:
        line.refuse("index", f"is {index}, and has to be {expected}")
    step = RecordedStep(index, line.take_uint32("id"), line.take_float32("logprob"))
    line.end()
    return step


def _read_finish(line: Line, tokens: int) -> Finish:
    inner = line.take_object("finish")
    line.end()
    reason = inner.take("finish_reason", str)
    if reason not in list(FinishReason):
        inner.refuse("finish_reason", f"is {reason!r}, and has to be one of {_REASONS}")
    finish = Finish(
        choice=0,
        finish_reason=FinishReason(reason),
        stop=None if inner.is_null("stop") else inner.take("stop", str),
        stop_token_id=None
        if inner.is_null("stop_token_id")
        else inner.take_uint32("stop_token_id"),
        eos_token_id=None if inner.is_null("eos_token_id") else inner.take_uint32("eos_token_id"),
        completion_tokens=inner.take_uint32("completion_tokens"),
        digest=inner.take_sha256("digest"),
    )
    inner.end()
    if finish.completion_tokens != tokens:
        inner.refuse(
            "completion_tokens", f"is {finish.completion_tokens}, with {tokens} tokens before"
        )
    return finish
