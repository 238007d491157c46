"""What the page asks for: /api.

Knows the bodies that the page sends, and what is streamed back: nextok's own values as JSON. A
branch is a prompt and the tokens behind it; they are given to the server as those of a stream that
broke, so that it goes on with the bits that an uninterrupted one has.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route

from nextok.async_client import AsyncClient
from nextok.health import ServingStatus
from nextok.plain import to_json
from nextok.web import bodies
from nextok.web.answers import EventStream, JsonAnswer
from nextok.web.bodies import Body
from nextok.web.refusals import bad_value
from nextok.web.sampling import SAMPLING, take_options
from nextok.web.throughput import Throughput

PREFIX: Final = "/api"
# Also where a server is away for a moment: longer, and the page says so.
_STATE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Branch:
    """Where to go on from, and how.

    Attributes:
        prompt: Text, or token ids.
        path: Tokens behind it.
        count: Tokens to generate behind these.
        top_logprobs: How many of the likeliest tokens each step lists.
        token_ids: Tokens that each step reports besides.
        options: Of the sampler, and the seed.
    """

    prompt: str | list[int]
    path: list[int]
    count: int
    top_logprobs: int
    token_ids: list[int]
    options: dict[str, Any]

    @classmethod
    def read(cls, data: bytes, *, count: int | None = None) -> Branch:
        """Reads a body; `count` stands for the one that is not asked for.

        Raises:
            Refusal: Names the field, its value and what it may be.
        """
        body = Body(data)
        branch = cls(
            prompt=_take_prompt(body),
            path=body.take("path", bodies.token_ids, []),
            count=body.take("max_tokens", bodies.count, 40) if count is None else count,
            top_logprobs=body.take("top_logprobs", bodies.count, 0),
            token_ids=body.take("token_ids", bodies.token_ids, []),
            options=take_options(body, {**SAMPLING, "seed": bodies.seed}),
        )
        body.finish()
        if branch.count < 1:
            raise bad_value("max_tokens", "is 0, the least is 1")
        return branch

    def generate(self, client: AsyncClient) -> Any:
        """Starts the generation.

        Raises:
            Refusal: A value fits no message.
        """
        try:
            return client.generate(
                self.prompt,
                max_tokens=min(len(self.path) + self.count, 2**32 - 1),
                top_logprobs=self.top_logprobs,
                logprob_token_ids=self.token_ids,
                resume_token_ids=self.path,
                **self.options,
            )
        except (TypeError, ValueError) as error:  # what no message can hold
            name, _, reason = str(error).partition(": ")
            raise bad_value(name, f"cannot be sent: {reason}") from None


def _take_prompt(body: Body) -> str | list[int]:
    nothing: str | list[int] = ""  # which the server refuses, with the range
    return body.take("prompt", bodies.prompt, nothing)


def routes(client: AsyncClient, throughput: Throughput) -> list[Route]:
    """The routes behind the prefix, answered by a nextok server."""

    async def model(_: Request) -> JsonAnswer:
        return JsonAnswer(lambda: _model(client))

    async def state(_: Request) -> JsonAnswer:
        return JsonAnswer(lambda: _state(client, throughput))

    def posted(work: Callable[[bytes], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Any:
            return work(await request.body())

        return answer

    return [
        Route("/model", model),
        Route("/state", state),
        *(
            Route(path, posted(partial(work, client, throughput)), methods=["POST"])
            for path, work in _WORKS.items()
        ),
    ]


async def _model(client: AsyncClient) -> Any:
    return to_json(await client.get_model())


async def _state(client: AsyncClient, throughput: Throughput) -> Any:
    status = await client.health(timeout=_STATE_SECONDS)
    return {"serving": status is ServingStatus.SERVING, "tokens_per_second": throughput.rate()}


def _tokenize(client: AsyncClient, _: Throughput, data: bytes) -> JsonAnswer:
    body = Body(data)
    text = body.take("text", bodies.text, "")
    body.finish()

    async def work() -> Any:
        return {"tokens": to_json(tuple(await client.tokenize(text)))}

    return JsonAnswer(work)


def _next(client: AsyncClient, _: Throughput, data: bytes) -> JsonAnswer:
    """What could come behind a branch; nothing is added to it."""
    branch = Branch.read(data, count=1)

    async def work() -> Any:
        async with branch.generate(client) as generation:
            async for step in generation:
                return {"prompt": to_json(tuple(generation.prompt.tokens)), "step": to_json(step)}
            # The branch had come to its end, or fills the context.
            prompt = to_json(tuple(generation.prompt.tokens))
            return {"prompt": prompt, "step": None, "finish": to_json(generation.finish)}

    return JsonAnswer(work)


def _generate(client: AsyncClient, throughput: Throughput, data: bytes) -> EventStream:
    return EventStream(_steps(client, throughput, Branch.read(data)))


async def _steps(
    client: AsyncClient, throughput: Throughput, branch: Branch
) -> AsyncGenerator[Any, None]:
    async with branch.generate(client) as generation:
        yield {"prompt": to_json(await generation.start())}
        async for step in generation:
            throughput.add()
            yield {"step": to_json(step)}
        finish, summary = to_json(generation.finish), to_json(generation.summary)
        yield {"finish": finish, "summary": summary}


def _score(client: AsyncClient, _: Throughput, data: bytes) -> EventStream:
    body = Body(data)
    prompt = _take_prompt(body)
    top = body.take("top_logprobs", bodies.count, 0)
    body.finish()
    return EventStream(_scored(client, prompt, top))


async def _scored(
    client: AsyncClient, prompt: str | list[int], top: int
) -> AsyncGenerator[Any, None]:
    async with client.score(prompt, top_logprobs=top) as scoring:
        yield {"prompt": to_json(await scoring.start())}
        async for token in scoring:
            yield {"token": to_json(token)}
        yield {"total": to_json(scoring.totals[0]), "summary": to_json(scoring.summary)}


_WORKS: Final[dict[str, Callable[[AsyncClient, Throughput, bytes], Any]]] = {
    "/tokenize": _tokenize,
    "/next": _next,
    "/generate": _generate,
    "/score": _score,
}
