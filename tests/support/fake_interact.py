"""A fake service whose Interact is played by rules on a tiny model of a few words.

The model is a function of the tokens alone: the likeliest token is the one behind the last, and
the others follow with falling probability. So tests know what has to come, and a branch is
checked against a function of its tokens. Draws take the likeliest token.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from support.fake_service import FakeService, Refuse, candidate, refuse, text_tokens

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

# By id. "é" comes in two tokens, neither of which is a character.
TOKENS = [b"Once", b" upon", b" a", b" time", b",", b" there", b" was", b"\xc3", b"\xa9", b"\n"]
PROMPT = "Once upon a"
PROMPT_IDS = (0, 1, 2)


def probabilities(ids: Sequence[int]) -> list[float]:
    """What the model thinks comes after these tokens."""
    weights = [0.0] * len(TOKENS)
    for place in range(len(TOKENS)):
        weights[(ids[-1] + 1 + place) % len(TOKENS)] = 2.0 ** -(place + len(ids) % 3)
    return [weight / sum(weights) for weight in weights]


def read(prompt: types.Prompt) -> list[int]:
    """The ids of a prompt; a text has to be made of tokens."""
    if prompt.WhichOneof("source") == "token_ids":
        return list(prompt.token_ids.ids)
    rest, ids = prompt.text.encode(), []
    while rest:
        ids.append(next(i for i, token in enumerate(TOKENS) if rest.startswith(token)))
        rest = rest[len(TOKENS[ids[-1]]) :]
    return ids


def text(token_id: int) -> str:
    return TOKENS[token_id].decode(errors="replace")


def likeliest(probs: Sequence[float], count: int) -> list[types.Candidate]:
    ids = sorted(range(len(probs)), key=lambda i: -probs[i])[:count]
    return [candidate(i, text(i), probs[i], rank) for rank, i in enumerate(ids, 1)]


def distribution(ids: Sequence[int], options: types.LogprobOptions) -> pb.Distribution:
    probs = probabilities(ids)
    return pb.Distribution(
        position=len(ids),
        top_logprobs=likeliest(probs, options.top_logprobs),
        full_logprobs=map(math.log, probs) if options.full_vocabulary else [],
        entropy=-sum(p * math.log(p) for p in probs),
        top_mass=sum(sorted(probs)[len(probs) - options.top_logprobs :]),
        tail_mass=sum(sorted(probs)[: len(probs) - options.top_logprobs]),
        margin=math.log(2),
    )


def step(
    index: int, ids: Sequence[int], token_id: int, options: types.LogprobOptions, forced: bool
) -> types.Step:
    probs = probabilities(ids)
    before = distribution(ids, options)
    return types.Step(
        index=index,
        id=token_id,
        token=text(token_id),
        bytes=TOKENS[token_id],
        delta=text(token_id),
        logprob=math.log(probs[token_id]),
        surprisal=-math.log(probs[token_id]),
        prob=probs[token_id],
        rank=sorted(probs, reverse=True).index(probs[token_id]) + 1,
        top_logprobs=before.top_logprobs,
        full_logprobs=before.full_logprobs,
        entropy=before.entropy,
        top_mass=before.top_mass,
        tail_mass=before.tail_mass,
        margin=before.margin,
        forced=forced,
    )


@dataclass
class FakeInteract(FakeService):
    """Plays Interact by its rules.

    `refuse_at` ends a call at that action instead. From action `together[0]` on, `together[1]`
    actions have to come before one of them is answered. `hold` is waited for before each answer,
    after setting `holding`.
    """

    refuse_at: dict[int, Refuse] = field(default_factory=dict)
    together: tuple[int, int] = (0, 1)
    hold: threading.Event | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    actions: list[pb.InteractRequest] = field(default_factory=list)
    stray_answers: bool = False

    def Tokenize(self, request, context):  # noqa: N802 - named by the contract
        self._begin(request, context)
        words = [(token_id, text(token_id)) for token_id in read(types.Prompt(text=request.text))]
        return pb.TokenizeResponse(tokens=text_tokens(words))

    def Interact(self, requests, context):  # noqa: N802 - named by the contract
        finished = threading.Event()
        context.add_callback(lambda: finished.is_set() or self.given_up.set())
        self._begin(None, context)
        game: _Game | None = None
        for index, request in enumerate(self._in_groups(requests)):
            if index in self.refuse_at:
                finished.set()
                refuse(context, self.refuse_at[index])
            if self.hold is not None:
                self.holding.set()
                self.hold.wait(10)
            game = game or _Game(request.start)
            if request.HasField("stop"):
                finished.set()
            for answer in game.answers(request):
                answer.action_index = index + self.stray_answers
                yield answer
            if request.HasField("stop"):
                return

    def _in_groups(self, requests: Iterator[pb.InteractRequest]) -> Iterator[pb.InteractRequest]:
        first, count = self.together
        for index, request in enumerate(requests):
            group = [request, *islice(requests, count - 1 if index == first else 0)]
            self.actions.extend(group)
            yield from group


class _Game:
    """The branches of one call."""

    def __init__(self, start: pb.StartAction) -> None:
        self.options = start.logprobs
        self.prompt = read(start.prompt)
        self.branches = {0: list(self.prompt)}
        self.made = 1
        self.current = 0

    def answers(self, request: pb.InteractRequest) -> Iterator[pb.InteractResponse]:
        number = request.branch_id if request.HasField("branch_id") else self.current
        kind = request.WhichOneof("action")
        answer = pb.InteractResponse(branch_id=number)
        match kind:
            case "start":
                words = [(i, text(i)) for i in self.prompt]
                answer.prompt.CopyFrom(pb.PromptInfo(tokens=text_tokens(words), seed=7))
            case "pick":
                answer.steps.append(self._append(number, request.pick.token_id, True))
            case "force":
                for token_id in read(request.force.tokens):
                    answer.steps.append(self._append(number, token_id, True))
            case "sample":
                count = request.sample.count if request.sample.HasField("count") else 1
                for _ in range(count - 1):
                    yield pb.InteractResponse(branch_id=number, steps=[self._draw(number)])
                answer.steps.append(self._draw(number))
            case "rewind":
                ids = self.branches[number]
                del ids[len(ids) - request.rewind.count :]
            case "fork":
                answer.branch_id = self.made
                self.branches[self.made] = list(self.branches[number])
                self.made += 1
            case "switch":
                self.current = number
            case "drop":
                del self.branches[number]
            case "stop":
                usage = types.Usage(prompt_tokens=len(self.prompt), completion_tokens=9)
                answer.summary.CopyFrom(pb.GenerateSummary(usage=usage))
        if kind not in ("drop", "stop"):
            ids = self.branches[answer.branch_id]
            answer.distribution.CopyFrom(distribution(ids, self.options))
        yield answer

    def _draw(self, number: int) -> types.Step:
        probs = probabilities(self.branches[number])
        return self._append(number, probs.index(max(probs)), False)

    def _append(self, number: int, token_id: int, forced: bool) -> types.Step:
        ids = self.branches[number]
        made = step(len(ids) - len(self.prompt), ids, token_id, self.options, forced)
        ids.append(token_id)
        return made
