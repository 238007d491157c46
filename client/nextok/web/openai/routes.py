"""The routes under /v1.

Knows paths and what each answers, also those that are refused.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from nextok.async_client import AsyncClient
from nextok.model import Model
from nextok.web.answers import EventStream, JsonAnswer
from nextok.web.openai.completions import Completion
from nextok.web.openai.requests import CompletionRequest, read_completion
from nextok.web.refusals import Refusal
from nextok.web.throughput import Throughput

PREFIX = "/v1"

# What OpenAI's clients know, and GPT-2 does not.
_REFUSED = {
    "/chat/completions": "GPT-2 continues texts; it was not trained to take part in a chat. "
    "Write the conversation so far as a text, and send it to /v1/completions",
    "/responses": "GPT-2 continues texts; it answers no messages and calls no tools. "
    "Send a text to /v1/completions",
    "/embeddings": "this server tells the probabilities of tokens, and has no embeddings",
    "/edits": "GPT-2 continues texts; it takes no instructions. Use /v1/completions",
    "/moderations": "GPT-2 judges no texts",
}


def routes(client: AsyncClient, throughput: Throughput) -> list[Route]:
    """The routes behind the prefix, answered by a nextok server."""

    async def completions(request: Request) -> EventStream | JsonAnswer:
        asked = read_completion(await request.body())
        if asked.stream:
            return EventStream(_stream(client, throughput, asked))
        return JsonAnswer(partial(_whole, client, throughput, asked))

    async def models(_: Request) -> JsonAnswer:
        return JsonAnswer(partial(_models, client))

    async def model(request: Request) -> JsonAnswer:
        return JsonAnswer(partial(_model, client, request.path_params["name"]))

    return [
        Route("/completions", completions, methods=["POST"]),
        Route("/models", models),
        Route("/models/{name:path}", model),
        *(Route(path, _refuse, methods=["POST"]) for path in _REFUSED),
    ]


async def _refuse(request: Request) -> JsonAnswer:
    raise Refusal(404, _REFUSED[request.url.path.removeprefix(PREFIX)], code="unsupported_endpoint")


async def _stream(client: AsyncClient, throughput: Throughput, asked: CompletionRequest) -> Any:
    model = await _named(client, asked.model)
    async for data in Completion(client, model, asked, throughput).stream():
        yield data


async def _whole(
    client: AsyncClient, throughput: Throughput, asked: CompletionRequest
) -> dict[str, Any]:
    model = await _named(client, asked.model)
    return await Completion(client, model, asked, throughput).whole()


async def _models(client: AsyncClient) -> dict[str, Any]:
    return {"object": "list", "data": [_described(await client.get_model())]}


async def _model(client: AsyncClient, name: str) -> dict[str, Any]:
    return _described(await _named(client, name))


async def _named(client: AsyncClient, name: str) -> Model:
    """The served model, which has to have this name."""
    model = await client.get_model()
    if model.name != name:
        message = f"the model {name!r} is not served here, but {model.name!r}"
        raise Refusal(404, message, "model", "model_not_found")
    return model


def _described(model: Model) -> dict[str, Any]:
    # When the checkpoint was made is not known; OpenAI's clients want a number.
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "nextok"}
