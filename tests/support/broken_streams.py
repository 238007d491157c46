"""A generation of four steps, to be broken anywhere, and what servers send that go on with it."""

from __future__ import annotations

from support.fake_service import first, last, step

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

IDS = [21, 22, 23, 24]
STEPS = [
    step(index, text, token_id, prob=0.3 + index / 10)
    for index, (text, token_id) in enumerate(zip([" a", "", "\u65e5", "!"], IDS, strict=True))
]
SCORED = [
    types.ScoredToken(position=0, id=40),
    *(types.ScoredToken(position=i, id=40 + i, logprob=-i) for i in range(1, 5)),
]


def prompt(*tokens):
    """A message with scored tokens of the prompt."""
    return pb.GenerateResponse(prompt_logprobs=tokens)


def steps(*messages):
    """Steps, a message each."""
    return [pb.GenerateResponse(steps=[message]) for message in messages]


WHOLE = [first(), prompt(*SCORED[:3]), prompt(*SCORED[3:]), *steps(*STEPS), last(4)]


def behind(count):
    """What a server sends that is given the first `count` tokens."""
    return [first(), prompt(*SCORED), *steps(*STEPS[count:]), last(4)]
