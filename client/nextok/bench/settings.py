"""What one run is, and the runs that a sweep is made of.

Knows what fits a server's model. Knows neither the command line nor gRPC.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nextok.bench.lengths import Lengths
from nextok.model import Capability, Model


class BadSetting(ValueError):
    """A setting that cannot be measured; `option` is its name on the command line."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option
        self.message = message


@dataclass(frozen=True, slots=True)
class Settings:
    """One run. Every field is in the report, under its name.

    Attributes:
        streams: Closed loop: streams that are always busy. None in an open loop.
        request_rate: Open loop: requests a second, arriving at random. None in a closed loop.
        context: The prompts' length, where lengths are swept over; else None.
        requests: Requests that are measured.
        warmup: Requests before them, which are not.
        prompt_tokens: Length of the prompts, a shared prefix included.
        output_tokens: Length of the completions.
        prefix_share: Share of the requests whose prompts begin with one prefix, 0 to 1.
        prefix_tokens: Length of that prefix; 0 where there is none.
        seed: Of lengths, arrivals and prompts.
        temperature: 0 is greedy.
        top_k: As in Generate; None leaves it to the server.
        top_p: As in Generate; None leaves it to the server.
        top_logprobs: Candidates of each step.
        drafts: Whether the server may draft tokens; None leaves it to the server.
        bypass_prefix_reuse: Whether prompts are computed whole even if their state was kept.
        timeout: Longest time for one request, in seconds; None sets no limit.
    """

    streams: int | None
    request_rate: float | None
    context: int | None
    requests: int
    warmup: int
    prompt_tokens: Lengths
    output_tokens: Lengths
    prefix_share: float
    prefix_tokens: int
    seed: int
    temperature: float
    top_k: int | None
    top_p: float | None
    top_logprobs: int
    drafts: bool | None
    bypass_prefix_reuse: bool
    timeout: float | None


def sweep(
    base: Settings,
    *,
    streams: Sequence[int],
    request_rates: Sequence[float],
    contexts: Sequence[int],
    requests: int | None,
    warmup: int | None,
) -> list[Settings]:
    """Returns the runs of one round: every load, at every context.

    Args:
        base: What all runs have in common.
        streams: Closed loops to run.
        request_rates: Open loops to run.
        contexts: Lengths of prompts to run each of them with; none: the base's.
        requests: Measured requests of a run. None: four a stream and at least 20, or 100 in an
            open loop.
        warmup: Requests before them. None: one a stream, or 10 in an open loop.
    """
    loads = [
        replace(
            base,
            streams=count,
            requests=max(20, 4 * count) if requests is None else requests,
            warmup=count if warmup is None else warmup,
        )
        for count in streams
    ] + [
        replace(
            base,
            request_rate=rate,
            requests=100 if requests is None else requests,
            warmup=10 if warmup is None else warmup,
        )
        for rate in request_rates
    ]
    if not contexts:
        return loads
    return [
        replace(load, context=length, prompt_tokens=Lengths(length, length))
        for load, length in itertools.product(loads, contexts)
    ]


def check_prefix(settings: Settings) -> None:
    """Makes sure that a shared prefix is wholly described, and shorter than every prompt.

    Raises:
        BadSetting: It is not.
    """
    share, tokens, shortest = settings.prefix_share, settings.prefix_tokens, settings.prompt_tokens
    if (share > 0) != (tokens > 0):
        raise BadSetting(
            "--prefix-tokens" if share > 0 else "--prefix-share",
            "a shared prefix needs both --prefix-share over 0 and --prefix-tokens over 0",
        )
    if tokens >= shortest.low:
        raise BadSetting(
            "--prefix-tokens",
            f"{tokens} is not from 0 to {shortest.low - 1}, one less than the shortest prompt",
        )


def check_against(settings: Settings, model: Model) -> None:
    """Makes sure that a server's model can do what a run asks for.

    Raises:
        BadSetting: It cannot.
    """
    prompt, output = settings.prompt_tokens.high, settings.output_tokens.high
    if prompt + output > model.context_length:
        option = "--prompt-tokens" if settings.context is None else "--contexts"
        raise BadSetting(
            option,
            f"{prompt} tokens and {output} of --output-tokens are more than this model's context "
            f"of {model.context_length}; at most {max(0, model.context_length - output)}",
        )
    if settings.top_logprobs > model.limits.max_top_logprobs:
        limit = model.limits.max_top_logprobs
        raise BadSetting("--top", f"{settings.top_logprobs} is not from 0 to {limit}")
    if settings.drafts and Capability.DRAFTS not in model.capabilities:
        raise BadSetting("--drafts", "this server does not draft tokens")
