"""A server of nextok.v1 whose answers are scripted: the wire without a model.

It is an in-process grpc server on a port of its own, with grpc.health.v1 beside the service.
What a call sends is a list of messages, in which `Refuse` ends it with a status, `Hold` keeps
it open until the client gives it up, and `Until` waits for a test to say so.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok.v1.text_generation_pb2_grpc import (
    TextGenerationServiceServicer,
    add_TextGenerationServiceServicer_to_server,
)

# Far longer than anything here takes; a test that needs it has failed.
PATIENCE_SECONDS = 10

# The tokens of "I love Generative AI", with some that may follow.
WORDS = {40: "I", 1842: " love", 2980: " Gener", 876: "ative", 9552: " AI"}
SENTENCE = "I love Generative AI"
ARTIFACT = "aa" * 32


@dataclass(frozen=True)
class Refuse:
    """Ends the call with a status."""

    code: grpc.StatusCode
    details: str = ""
    metadata: tuple[tuple[str, str | bytes], ...] = ()


@dataclass(frozen=True)
class Hold:
    """Keeps the call open until the client gives it up or its deadline passes."""


@dataclass(frozen=True)
class Until:
    """Waits for an event that the test sets."""

    event: threading.Event


LOST = Refuse(grpc.StatusCode.UNAVAILABLE, "connection lost")


def text_tokens(words: Iterable[tuple[int, str]]) -> list[types.TextToken]:
    """Returns the words as tokens of one text."""
    tokens = []
    start = 0
    for token_id, word in words:
        end = start + len(word)
        tokens.append(
            types.TextToken(
                id=token_id,
                token=word,
                bytes=word.encode(),
                byte_start=start,
                byte_end=end,
                char_start=start,
                char_end=end,
            )
        )
        start = end
    return tokens


def candidate(token_id: int, token: str, prob: float, rank: int) -> types.Candidate:
    """Returns a candidate of which the sampler thinks what the model thinks."""
    return types.Candidate(
        id=token_id,
        token=token,
        bytes=token.encode(),
        logprob=math.log(prob),
        rank=rank,
        prob=prob,
        kept=True,
    )


def step(index: int, token: str, token_id: int = 11, prob: float = 0.5) -> types.Step:
    """Returns a step with two candidates, of which the first was chosen."""
    return types.Step(
        index=index,
        id=token_id,
        token=token,
        bytes=token.encode(),
        logprob=math.log(prob),
        rank=1,
        prob=prob,
        delta=token,
        top_logprobs=[candidate(token_id, token, prob, 1), candidate(13, ".", 0.25, 2)],
        entropy=1.5,
        surprisal=-math.log(prob),
        top_mass=prob + 0.25,
        tail_mass=0.75 - prob,
        margin=0.7,
        elapsed_seconds=0.01 * (index + 1),
    )


def first(words: Iterable[tuple[int, str]] = tuple(WORDS.items())) -> pb.GenerateResponse:
    """Returns the message that a generation begins with."""
    return pb.GenerateResponse(
        prompt=pb.PromptInfo(
            tokens=text_tokens(words), seed=7, max_tokens=1019, artifact_sha256=ARTIFACT
        )
    )


def last(tokens: int, *, prompt_tokens: int = 5) -> pb.GenerateResponse:
    """Returns the message that a generation ends with."""
    return pb.GenerateResponse(
        finish=types.Finish(
            finish_reason=types.FINISH_REASON_LENGTH, completion_tokens=tokens, digest="ab" * 32
        ),
        summary=pb.GenerateSummary(
            usage=types.Usage(prompt_tokens=prompt_tokens, completion_tokens=tokens),
            timings=types.Timings(queue_seconds=0.001, prefill_seconds=0.01, decode_seconds=0.1),
        ),
    )


def generation(*tokens: str) -> list[pb.GenerateResponse]:
    """Returns a whole generation, a message a step."""
    steps = [pb.GenerateResponse(steps=[step(i, token)]) for i, token in enumerate(tokens)]
    return [first(), *steps, last(len(tokens))]


def scored(
    position: int, token: str, prob: float | None = 0.5, continuation: int | None = None
) -> types.ScoredToken:
    """Returns a scored token with two candidates; without probability if `prob` is None."""
    message = types.ScoredToken(
        position=position,
        id=11,
        token=token,
        bytes=token.encode(),
        context_tokens=position,
        continuation=continuation,
    )
    if prob is not None:
        message.logprob, message.surprisal = math.log(prob), -math.log(prob)
        message.rank, message.entropy = 1, 1.5
        message.top_logprobs.extend([candidate(11, token, prob, 1), candidate(13, ".", 0.25, 2)])
    return message


def scoring(*texts: Iterable[str], continuations: bool = False) -> list[pb.ScoreResponse]:
    """Returns a whole scoring, a message a text; of a prompt, the first token has no score."""
    messages = [pb.ScoreResponse(prompt=first().prompt)]
    for number, words in enumerate(texts):
        place = number if continuations else None
        tokens = [
            scored(i, word, 0.5 if i or continuations else None, place)
            for i, word in enumerate(words)
        ]
        count = sum(token.HasField("logprob") for token in tokens)
        total = pb.ScoreTotal(
            continuation=place,
            logprob=math.log(0.5) * count,
            scored_tokens=count,
            perplexity=2.0,
            is_greedy=True,
        )
        messages.append(pb.ScoreResponse(tokens=tokens, total=total))
    summary = pb.ScoreSummary(usage=types.Usage(prompt_tokens=5), computed_tokens=4)
    return [*messages, pb.ScoreResponse(summary=summary)]


def exploration() -> list[pb.ExploreResponse]:
    """Returns a whole tree: "a" and "b" after the prompt, " c" and half a character after "a"."""
    half = candidate(5, "\ufffd", 0.25, 2)
    half.bytes = b"\xf0\x9f"
    found = [
        (0, 1, candidate(3, "a", 0.5, 1), 0.5),
        (0, 1, candidate(4, "b", 0.25, 2), 0.25),
        (1, 2, candidate(6, " c", 0.25, 1), 0.125),
        (1, 2, half, 0.0625),
    ]
    nodes = [
        pb.ExploreNode(
            node_id=number,
            parent_id=parent,
            depth=depth,
            candidate=token,
            cumulative_logprob=math.log(prob),
        )
        for number, (parent, depth, token, prob) in enumerate(found, 1)
    ]
    summary = pb.ExploreSummary(
        nodes=4,
        expanded=3,
        leaf_mass=0.4375,
        usage=types.Usage(prompt_tokens=5, completion_tokens=4),
        computed_tokens=7,
        end=pb.EXPLORE_END_NODES,
    )
    return [
        pb.ExploreResponse(prompt=first().prompt),
        pb.ExploreResponse(nodes=nodes[:1]),
        pb.ExploreResponse(nodes=nodes[1:]),
        pb.ExploreResponse(summary=summary),
    ]


def model() -> pb.GetModelResponse:
    """Returns a model in which no two numbers are equal."""
    return pb.GetModelResponse(
        name="demo",
        precision="int8",
        layers=6,
        heads=8,
        width=256,
        vocabulary_size=50257,
        context_length=1024,
        eos_token_ids=[50256],
        artifact_sha256=ARTIFACT,
        source_sha256="bb" * 32,
        certificate=pb.Certificate(
            positions=2048,
            comparisons=[
                pb.Certificate.Comparison(
                    scenario="decode",
                    reference="torch",
                    positions=640,
                    max_abs_logprob_difference=0.25,
                    mean_abs_logprob_difference=0.125,
                    mean_kl=0.001,
                    top1_agreement=0.99,
                    top10_agreement=0.98,
                    reference_perplexity=21.5,
                    perplexity=21.6,
                )
            ],
            approximate=True,
        ),
        limits=pb.Limits(
            max_prompt_bytes=65536,
            max_top_logprobs=64,
            max_logprob_token_ids=128,
            max_stop=16,
            max_stop_bytes=256,
            max_stop_token_ids=17,
            max_logit_bias=1000,
            slots=32,
            max_queue=256,
            max_streams_per_connection=100,
            max_continuations=18,
            max_score_tokens=19,
            max_choices=20,
            max_branches=23,
            max_pending_actions=24,
            max_explore_nodes=25,
            max_explore_seconds=26.5,
            max_constraint_bytes=21,
        ),
        capabilities=[pb.CAPABILITY_SCORE, pb.CAPABILITY_PREFIX_REUSE],
        server_version="0.1.0",
        onnxruntime_version="1.32.0",
        threads=2,
    )


@dataclass
class FakeService(TextGenerationServiceServicer):
    """Answers from a script, and remembers what it was asked.

    `scripts` are for the first generations, one each; those after them get `script`.
    `requests` has every request, `time_left` the seconds until the deadline of each;
    `given_up` is set when a generation was ended by the client, or by its deadline, before its
    script was through.
    """

    script: list[object] = field(default_factory=lambda: list(generation(" and", " it", ".")))
    scripts: list[list[object]] = field(default_factory=list)
    refusal: Refuse | None = None
    requests: list[object] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    time_left: list[float | None] = field(default_factory=list)
    given_up: threading.Event = field(default_factory=threading.Event)

    def GetModel(self, request, context):  # noqa: N802 - named by the contract
        self._begin(request, context)
        return model()

    def Tokenize(self, request, context):  # noqa: N802 - named by the contract
        self._begin(request, context)
        return pb.TokenizeResponse(tokens=text_tokens(WORDS.items()))

    def Detokenize(self, request, context):  # noqa: N802 - named by the contract
        self._begin(request, context)
        words = [(token_id, WORDS.get(token_id, " ?")) for token_id in request.token_ids]
        text = "".join(word for _, word in words)
        return pb.DetokenizeResponse(text=text, bytes=text.encode(), tokens=text_tokens(words))

    def Generate(self, request, context):  # noqa: N802 - named by the contract
        self._begin(request, context)
        ended = threading.Event()
        finished = threading.Event()

        def end() -> None:
            if not finished.is_set():
                self.given_up.set()
            ended.set()

        context.add_callback(end)
        for item in self.scripts.pop(0) if self.scripts else self.script:
            match item:
                case Refuse():
                    finished.set()
                    refuse(context, item)
                case Hold():
                    ended.wait(PATIENCE_SECONDS)
                    return
                case Until():
                    item.event.wait(PATIENCE_SECONDS)
                case _:
                    yield item
        finished.set()

    def Score(self, request, context):  # noqa: N802 - named by the contract
        return self.Generate(request, context)

    def Explore(self, request, context):  # noqa: N802 - named by the contract
        return self.Generate(request, context)

    def _begin(self, request: object, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.time_left.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        if self.refusal is not None:
            refuse(context, self.refusal)


def refuse(context: grpc.ServicerContext, refusal: Refuse) -> None:
    context.set_trailing_metadata(refusal.metadata)
    context.abort(refusal.code, refusal.details)


@contextmanager
def serving(
    service: FakeService, *, healthy: bool = True, options: Iterable[tuple[str, int]] = ()
) -> Iterator[str]:
    """Serves it on a free port of this machine; gives HOST:PORT."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=list(options))
        add_TextGenerationServiceServicer_to_server(service, server)
        statuses = health.HealthServicer()
        status = health_pb2.HealthCheckResponse
        statuses.set("", status.SERVING if healthy else status.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(statuses, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
