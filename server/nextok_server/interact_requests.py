"""InteractRequest to our own values: what is read there, and refused.

Knows: the wire messages, the limits, the tokenizer's `encode` as something to await. Does not know:
branches, the engine, gRPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.constraint_requests import read_constraint
from nextok_server.errors import InvalidRequest
from nextok_server.matching import Form, Grammar
from nextok_server.requests import (
    Limits,
    check_prompt_length,
    read_outputs,
    read_prompt,
    read_sampling,
    read_token_ids,
)
from nextok_server.sampling import SamplingParams
from nextok_server.score_requests import Encode
from nextok_server.sequence import Outputs

# Compiles a form.
Constrain = Callable[[Form], Awaitable[Grammar]]


@dataclass(frozen=True, slots=True)
class Start:
    """Begins: where, how tokens are drawn, what is told."""

    prompt: tuple[int, ...]
    sampling: SamplingParams
    outputs: Outputs
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Force:
    """Appends tokens that are given.

    Attributes:
        field: What they were given in.
    """

    token_ids: tuple[int, ...]
    field: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Appends tokens that are drawn.

    Attributes:
        sampling: How, from now on; None as before.
        keeps_seed: Whether that says nothing of a seed.
    """

    count: int
    sampling: SamplingParams | None = None
    keeps_seed: bool = False

    def after(self, before: SamplingParams) -> Sample:
        """The same where tokens were drawn in this way until now: with the seed, if it is kept."""
        if self.sampling is None or not self.keeps_seed:
            return self
        return Sample(self.count, replace(self.sampling, seed=before.seed))


@dataclass(frozen=True, slots=True)
class Rewind:
    """Takes tokens off the end."""

    count: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Makes a branch that is a copy."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Makes a branch the one that is meant."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Gives a branch up."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the call."""


Action = Force | Sample | Rewind | Fork | Switch | Drop | Stop


async def read_start(
    message: pb.InteractRequest, limits: Limits, encode: Encode, constrain: Constrain
) -> Start:
    """Validates what begins a call.

    Raises:
        InvalidRequest: Names the field, the value and the range.
        NotOffered: There is a constraint, and this server has none.
    """
    if message.WhichOneof("action") != "start":
        raise InvalidRequest("start", "is missing: the first message of a call has to begin it")
    if message.branch_id:
        raise InvalidRequest("branch_id", f"is {message.branch_id}, a call begins with branch 0")
    start = message.start
    with _within("start"):
        sampling = read_sampling(start.sampling, limits)
        outputs = read_outputs(start.logprobs, prompt=False, limits=limits)
        ids, field = await _read_tokens(start.prompt, "prompt", limits, encode)
        check_prompt_length(len(ids), field, limits)
        grammar = None
        if start.HasField("constraint"):
            grammar = await constrain(read_constraint(start.constraint, "constraint", limits))
    return Start(ids, sampling, outputs, grammar)


async def read_action(message: pb.InteractRequest, limits: Limits, encode: Encode) -> Action:
    """Validates an action, as far as that does not depend on its branch.

    Raises:
        InvalidRequest: Names the field, the value and the range.
    """
    match message.WhichOneof("action"):
        case "pick":
            with _within("pick"):
                return Force((_check_id(message.pick.token_id, "token_id", limits),), "pick")
        case "sample":
            with _within("sample"):
                return _read_sample(message.sample, limits)
        case "force":
            with _within("force"):
                ids, field = await _read_tokens(message.force.tokens, "tokens", limits, encode)
                if not ids:
                    raise InvalidRequest(field, "has 0 tokens, the least is 1")
                return Force(ids, "force.tokens")
        case "rewind":
            return Rewind(message.rewind.count)
        case "fork":
            return Fork()
        case "switch":
            return Switch()
        case "drop":
            return Drop()
        case "stop":
            return Stop()
        case "start":
            raise InvalidRequest("start", "comes again: it is the first message of a call only")
        case _:
            raise InvalidRequest("action", "is missing: exactly one is needed")


def _read_sample(message: pb.SampleAction, limits: Limits) -> Sample:
    count = message.count if message.HasField("count") else 1
    if count < 1:
        raise InvalidRequest("count", f"is {count}, the least is 1")
    if not message.HasField("sampling"):
        return Sample(count)
    sampling = read_sampling(message.sampling, limits)
    return Sample(count, sampling, keeps_seed=not message.sampling.HasField("seed"))


async def _read_tokens(
    message: types.Prompt, field: str, limits: Limits, encode: Encode
) -> tuple[tuple[int, ...], str]:
    """The tokens, and the path of what they were given as."""
    source = read_prompt(message, field, limits)
    if isinstance(source, str):
        return tuple(await encode(source)), f"{field}.text"
    return tuple(source), f"{field}.token_ids"


def _check_id(token_id: int, field: str, limits: Limits) -> int:
    try:
        read_token_ids([token_id], field, limits)
    except InvalidRequest as error:
        raise InvalidRequest(field, error.description) from None
    return token_id


@contextmanager
def _within(message: str) -> Iterator[None]:
    """Puts the name of the message that holds them before the fields that are refused."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"{message}.{error.field}", error.description) from None
