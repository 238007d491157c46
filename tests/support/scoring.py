"""Score requests with flat names, and everything that the answer said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from support.serving import Running

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

Text = str | Iterable[int]


@dataclass
class Scored:
    """Everything that one Score stream said."""

    messages: list[pb.ScoreResponse]

    @property
    def prompt(self) -> pb.PromptInfo:
        return self.messages[0].prompt

    @property
    def tokens(self) -> list[types.ScoredToken]:
        return [token for message in self.messages for token in message.tokens]

    @property
    def logprobs(self) -> list[float]:
        return [token.logprob for token in self.tokens if token.HasField("logprob")]

    @property
    def totals(self) -> list[pb.ScoreTotal]:
        return [message.total for message in self.messages if message.HasField("total")]

    @property
    def summary(self) -> pb.ScoreSummary:
        return self.messages[-1].summary


def score_request(
    prompt: Text, continuations: Iterable[Text] = (), **fields: Any
) -> pb.ScoreRequest:
    """A request with flat names: those of LogprobOptions too."""
    request = pb.ScoreRequest()
    _fill(request.prompt, prompt)
    for text in continuations:
        _fill(request.continuations.add(), text)
    for name, value in fields.items():
        owner = request.logprobs if name in request.logprobs.DESCRIPTOR.fields_by_name else request
        if owner.DESCRIPTOR.fields_by_name[name].is_repeated:
            getattr(owner, name).extend(value)
        else:
            setattr(owner, name, value)
    return request


def _fill(message: types.Prompt, text: Text) -> None:
    if isinstance(text, str):
        message.text = text
    else:
        message.token_ids.SetInParent()
        message.token_ids.ids.extend(text)


async def score(
    running: Running, prompt: Text, continuations: Iterable[Text] = (), **fields: Any
) -> Scored:
    call = running.stub.Score(score_request(prompt, continuations, **fields))
    return await read_scores(call)


async def read_scores(call: grpc.aio.UnaryStreamCall) -> Scored:
    """The rest of a stream."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return Scored(messages)
