"""A real server in the test's own event loop, and plain stubs to talk to it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok.v1 import types_pb2 as types
from nextok_server.app import App, create_server
from nextok_server.config import Config
from nextok_server.tokenizer import Tokenizer


@dataclass(frozen=True)
class Running:
    app: App
    channel: grpc.aio.Channel
    stub: pb_grpc.TextGenerationServiceStub
    tokenizer: Tokenizer

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.app.port}"


# Hundreds of servers load the same file, a quarter of a second each; nothing changes a tokenizer.
_load_tokenizer = functools.lru_cache(maxsize=4)(Tokenizer.from_file)


@contextlib.asynccontextmanager
async def running_server(artifact: Path, **settings: Any) -> AsyncIterator[Running]:
    # Steps are told at once, so that a test that holds the model back has what came before.
    settings = {"spinning": False, "message_interval": 0.0, **settings}
    config = Config(artifact=artifact, listen="127.0.0.1:0", **settings)
    with mock.patch.object(Tokenizer, "from_file", _load_tokenizer):
        app = await create_server(config)
    options = [("grpc.max_receive_message_length", 64 << 20)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}", options=options) as channel:
        tokenizer = _load_tokenizer(artifact / "tokenizer.json")
        yield Running(app, channel, pb_grpc.TextGenerationServiceStub(channel), tokenizer)
    await app.stop(5.0)


@dataclass
class Reply:
    """Everything that one Generate stream said."""

    messages: list[pb.GenerateResponse]

    @property
    def prompt(self) -> pb.PromptInfo:
        return self.messages[0].prompt

    @property
    def steps(self) -> list[types.Step]:
        return [step for message in self.messages for step in message.steps]

    @property
    def prompt_logprobs(self) -> list[types.ScoredToken]:
        return [score for message in self.messages for score in message.prompt_logprobs]

    @property
    def ids(self) -> list[int]:
        return [step.id for step in self.steps]

    @property
    def text(self) -> str:
        return "".join(step.delta for step in self.steps)

    @property
    def finish(self) -> types.Finish:
        return self.messages[-1].finish

    @property
    def usage(self) -> types.Usage:
        return self.messages[-1].summary.usage

    @property
    def bits(self) -> list[tuple[int, float, float]]:
        return [(step.id, step.logprob, step.entropy) for step in self.steps]


def generate_request(prompt: str | Iterable[int], **fields: Any) -> pb.GenerateRequest:
    """A request with flat names: those of SamplingParams, StopConditions and LogprobOptions."""
    request = pb.GenerateRequest()
    if isinstance(prompt, str):
        request.prompt.text = prompt
    else:
        request.prompt.token_ids.ids.extend(prompt)
    parts = (request.sampling, request.stop_conditions, request.logprobs, request)
    for name, value in fields.items():
        owner = next(part for part in parts if name in part.DESCRIPTOR.fields_by_name)
        field = owner.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated:
            getattr(owner, name).update(value) if isinstance(value, dict) else getattr(
                owner, name
            ).extend(value)
        elif isinstance(value, Message):
            getattr(owner, name).CopyFrom(value)
        else:
            setattr(owner, name, value)
    return request


async def generate(running: Running, prompt: str | Iterable[int], **fields: Any) -> Reply:
    call = running.stub.Generate(generate_request(prompt, **fields))
    return Reply([message async for message in call])


async def read_rest(call: grpc.aio.UnaryStreamCall) -> list[types.Step]:
    """The steps that are still to come, until the end or an error."""
    steps: list[types.Step] = []
    while (message := await call.read()) is not grpc.aio.EOF:
        steps.extend(message.steps)
    return steps


def violation(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Field and description of the one violation that an error carries."""
    status = status_pb2.Status()
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    status.ParseFromString(details)
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    (found,) = bad.field_violations
    return found.field, found.description
