"""/v1/completions: one request becomes generations, and these become OpenAI's objects.

Knows how prompts and `n` spread over calls of the client, and the order of a stream's chunks.
Shapes of single parts are in `shapes`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from nextok.async_client import AsyncClient
from nextok.async_generation import AsyncGeneration
from nextok.model import Model
from nextok.values import Finish, ScoredToken, Step, Usage
from nextok.web.merging import merged
from nextok.web.openai.requests import CompletionRequest
from nextok.web.openai.shapes import LogprobWriter, finish_reason, usage
from nextok.web.refusals import bad_value
from nextok.web.throughput import Throughput

Chunk = dict[str, Any]


@dataclass(slots=True)
class _Choice:
    """One completion, as it comes: the pieces of its text and of its log probabilities."""

    index: int
    writer: LogprobWriter | None
    tokens: int = 0
    ended: bool = False

    def piece(self, text: str, tokens: list[Step] | tuple[ScoredToken, ...]) -> Chunk:
        logprobs = None if self.writer is None else self.writer.write(tokens)
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": None}

    def end(self, finish: Finish | None) -> Chunk:
        reason = finish_reason(finish)
        return {"index": self.index, "text": "", "logprobs": None, "finish_reason": reason}


@dataclass(slots=True)
class _Counts:
    """Tokens of a request; a prompt counts once, however many completions it gets."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def add(self, used: Usage, *, first: bool) -> None:
        self.completion += used.completion_tokens
        if first:
            self.prompt += used.prompt_tokens
            self.cached += used.cached_tokens

    def to_json(self) -> dict[str, Any]:
        return usage(self.prompt, self.completion, self.cached)


@dataclass(slots=True)
class Completion:
    """A request that is being answered.

    Attributes:
        client: Of the nextok server.
        model: What it serves.
        request: What is asked for.
        throughput: Counts the tokens that come.
    """

    client: AsyncClient
    model: Model
    request: CompletionRequest
    throughput: Throughput
    _counts: _Counts = field(default_factory=_Counts)
    _id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    _created: int = field(default_factory=lambda: int(time.time()))

    async def stream(self) -> AsyncGenerator[Any, None]:
        """Gives the objects of a stream: a chunk a step, then usage if asked for, then [DONE]."""
        async for choice in self._pieces():
            yield self._object([choice])
        if self.request.include_usage:
            yield {**self._object([]), "usage": self._counts.to_json()}
        yield "[DONE]"

    async def whole(self) -> dict[str, Any]:
        """Returns the one object of an answer that is not a stream."""
        choices: list[Chunk] = [
            {"index": index, "text": "", "logprobs": None, "finish_reason": None}
            for index in range(self.request.choices)
        ]
        async for piece in self._pieces():
            _append(choices[piece["index"]], piece)
        return {**self._object(choices), "usage": self._counts.to_json()}

    def _object(self, choices: list[Chunk]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self.model.name,
            # Equal fingerprints, equal models: with the same seed, the same bits.
            "system_fingerprint": f"fp_{self.model.artifact_sha256[:16]}",
            "choices": choices,
        }

    def _pieces(self) -> AsyncGenerator[Chunk, None]:
        if self.request.max_tokens == 0:
            return merged([self._score(index) for index in range(self.request.choices)])
        return merged([self._complete(place) for place in range(len(self.request.prompts))])

    async def _complete(self, place: int) -> AsyncGenerator[Chunk, None]:
        """All completions of one prompt, which is computed once for them."""
        request = self.request
        async with self._generation(place) as generation:
            prompt = (await generation.start()).tokens
            choices = [self._choice(place * request.n + number) for number in range(request.n)]
            for choice in choices:
                if not request.echo and choice.writer is not None:
                    choice.writer.skip(token.bytes for token in prompt)
            async for step in generation:
                self.throughput.add()
                choice = choices[step.choice]
                if request.echo and choice.tokens == 0:
                    yield choice.piece(_text(prompt), generation.prompt_logprobs)
                yield choice.piece(step.delta, [step])
                choice.tokens += 1
                for end in _ends(choices, generation):
                    yield end
            for end in _ends(choices, generation):
                yield end
            if generation.summary is not None:
                self._counts.add(generation.summary.usage, first=True)

    async def _score(self, index: int) -> AsyncGenerator[Chunk, None]:
        """The prompt by itself, with its log probabilities."""
        async with self.client.score(
            self._prompt(index // self.request.n), top_logprobs=self.request.logprobs or 0
        ) as scoring:
            choice = self._choice(index)
            async for token in scoring:
                del token  # they are told together
            yield choice.piece(_text(scoring.prompt.tokens), scoring.tokens)
            if scoring.summary is not None:
                self._counts.add(scoring.summary.usage, first=index % self.request.n == 0)
            yield choice.end(None)

    def _generation(self, place: int) -> AsyncGeneration:
        request = self.request
        try:
            return self.client.generate(
                self._prompt(place),
                n=None if request.n == 1 else request.n,
                seed=request.seed,
                max_tokens=request.max_tokens,
                top_logprobs=request.logprobs or 0,
                prompt_logprobs=request.echo and request.logprobs is not None,
                **request.options,
            )
        except (TypeError, ValueError) as error:  # what no message can hold
            name, _, reason = str(error).partition(": ")
            raise bad_value(name, f"cannot be sent: {reason}") from None

    def _prompt(self, place: int) -> str | list[int]:
        prompt = self.request.prompts[place]
        # OpenAI's models continue a document's end where they are given nothing.
        return list(self.model.eos_token_ids[:1]) if prompt is None else prompt

    def _choice(self, index: int) -> _Choice:
        logprobs = self.request.logprobs
        return _Choice(index, None if logprobs is None else LogprobWriter(logprobs))


def _text(tokens: Any) -> str:
    return b"".join(token.bytes for token in tokens).decode(errors="replace")


def _ends(choices: list[_Choice], generation: AsyncGeneration) -> list[Chunk]:
    """The ends of completions whose last step was told."""
    found = []
    for finish in generation.finishes:
        choice = choices[finish.choice]
        if not choice.ended and choice.tokens == finish.completion_tokens:
            choice.ended = True
            found.append(choice.end(finish))
    return found


def _append(choice: Chunk, piece: Chunk) -> None:
    choice["text"] += piece["text"]
    choice["finish_reason"] = piece["finish_reason"]
    if piece["logprobs"] is None:
        return
    if choice["logprobs"] is None:
        choice["logprobs"] = piece["logprobs"]
        return
    for name, values in piece["logprobs"].items():
        choice["logprobs"][name].extend(values)
