"""What a client of OpenAI's asks for: the body of /v1/completions, read and checked.

Knows the names, types and defaults of OpenAI's API. Ranges are the nextok server's to check, but
for those of what it never gets to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from nextok.web import bodies
from nextok.web.bodies import Body
from nextok.web.refusals import Refusal, bad_value
from nextok.web.sampling import SAMPLING, Readers, take_options

DEFAULT_MAX_TOKENS: Final = 16
MAX_CHOICES: Final = 128

# What stands in the request under the names that Client.generate has, besides the sampler's.
_OPTIONS: Final[Readers] = {
    **SAMPLING,
    "stop": bodies.texts,
    "min_tokens": bodies.count,
    "stop_token_ids": bodies.token_ids,
    "ignore_eos": bodies.boolean,
}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """The body of /v1/completions.

    Attributes:
        model: The name of one of /v1/models.
        prompts: Texts or token ids, each to be completed; None stands for an empty text.
        n: How many completions of each.
        max_tokens: Most tokens of a completion. 0 only scores the prompt.
        seed: Of the draws.
        logprobs: How many of the most likely tokens to tell; None tells no probabilities.
        echo: Whether the prompt is part of the text, and of its probabilities.
        stream: Whether steps are sent as they come.
        include_usage: Whether a stream ends with the tokens counted.
        options: The rest, as Client.generate takes it.
    """

    model: str
    prompts: tuple[str | list[int] | None, ...]
    n: int
    max_tokens: int
    seed: int | None
    logprobs: int | None
    echo: bool
    stream: bool
    include_usage: bool
    options: dict[str, Any]

    @property
    def choices(self) -> int:
        """Completions in all."""
        return self.n * len(self.prompts)


def read_completion(data: bytes) -> CompletionRequest:
    """Reads the body of a completion.

    Raises:
        Refusal: Names the field, its value and what it may be.
    """
    body = Body(data)
    model = body.take("model", bodies.text, "")
    if not model:
        raise bad_value("model", "is missing; /v1/models has its name")
    stream = body.take("stream", bodies.boolean, False)
    request = CompletionRequest(
        model=model,
        prompts=body.take("prompt", _prompts, (None,)),
        n=body.take("n", bodies.integer, 1),
        max_tokens=body.take("max_tokens", bodies.count, DEFAULT_MAX_TOKENS),
        seed=body.take("seed", bodies.seed, None),
        logprobs=body.take("logprobs", bodies.count, None),
        echo=body.take("echo", bodies.boolean, False),
        stream=stream,
        include_usage=body.take("stream_options", _include_usage, False),
        options=take_options(body, _OPTIONS),
    )
    _check_best_of(body.take("best_of", bodies.integer, None), request.n)
    if body.take("suffix", bodies.text, ""):
        raise bad_value("suffix", "is given: GPT-2 continues a text, it does not fill one in")
    body.take("user", bodies.text, None)  # who asks changes nothing
    body.finish()
    _check(request)
    return request


def _check(request: CompletionRequest) -> None:
    if not 1 <= request.n <= MAX_CHOICES:
        raise bad_value("n", f"is {request.n}, the range is 1 to {MAX_CHOICES}")
    if request.choices > MAX_CHOICES:
        prompts = len(request.prompts)
        raise bad_value(
            "prompt",
            f"has {prompts} entries, with n = {request.n} of each the limit is {MAX_CHOICES} "
            "completions",
        )
    if request.max_tokens == 0 and not request.echo:
        raise bad_value("max_tokens", "is 0, the least is 1; 0 is for echo, to score a prompt")
    if request.include_usage and not request.stream:
        raise bad_value("stream_options", "is given without stream")


def _check_best_of(best_of: int | None, n: int) -> None:
    if best_of not in (None, n):
        raise bad_value(
            "best_of",
            f"is {best_of}, only n ({n}) is possible: every completion is returned, with its "
            "log probabilities, so that you can choose",
        )


def _prompts(name: str, value: Any) -> tuple[str | list[int], ...]:
    """A text, ids, a list of texts, or a list of lists of ids."""
    if isinstance(value, list) and value and isinstance(value[0], (str, list)):
        return tuple(bodies.prompt(f"{name}[{index}]", item) for index, item in enumerate(value))
    return (bodies.prompt(name, value),)


def _include_usage(name: str, value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"include_usage"}:
        raise Refusal(400, f"{name} may hold include_usage, and nothing else", name)
    return bodies.boolean(f"{name}.include_usage", value.get("include_usage", False))
