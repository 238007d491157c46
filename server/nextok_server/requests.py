"""From the wire to our own values: all validation of requests stands here.

Knows: the wire messages, the limits, the names of fields. Does not know: the engine, gRPC.
Each refusal names the field, its value and the range.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence as Many
from dataclasses import dataclass

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.errors import InvalidRequest
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, StopParams


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may ask for; sizes in tokens unless they say bytes."""

    vocabulary_size: int
    context_length: int
    max_prompt_bytes: int
    max_top_logprobs: int
    max_logprob_token_ids: int
    max_stop: int
    max_stop_bytes: int
    max_stop_token_ids: int
    max_logit_bias: int
    max_continuations: int
    max_score_tokens: int
    max_choices: int
    max_explore_nodes: int
    max_explore_seconds: float
    max_constraint_bytes: int
    max_branches: int
    max_pending_actions: int


def read_text(text: str, field: str, limits: Limits) -> str:
    """Checks a text's size, before anything looks into it."""
    size = len(text.encode())
    if size > limits.max_prompt_bytes:
        raise InvalidRequest(
            field, f"has {size} bytes, the limit is {limits.max_prompt_bytes} (max_prompt_bytes)"
        )
    return text


def read_token_ids(ids: Many[int], field: str, limits: Limits) -> list[int]:
    """Checks that ids stand in the vocabulary."""
    last = limits.vocabulary_size - 1
    for index, token_id in enumerate(ids):
        if token_id > last:
            raise InvalidRequest(f"{field}[{index}]", f"is {token_id}, the range is 0 to {last}")
    return list(ids)


def read_detokenize(ids: Many[int], limits: Limits) -> list[int]:
    """The tokens to turn into text: no more than a text can have."""
    if len(ids) > limits.max_prompt_bytes:
        raise InvalidRequest(
            "token_ids",
            f"has {len(ids)} entries, the limit is {limits.max_prompt_bytes} (max_prompt_bytes)",
        )
    return read_token_ids(ids, "token_ids", limits)


def read_prompt(prompt: types.Prompt, field: str, limits: Limits) -> str | list[int]:
    """The prompt's text, or its token ids where it was given as such.

    Ids may be more than the context holds: `check_prompt_length` has the last word.
    """
    source = prompt.WhichOneof("source")
    if source is None:
        raise InvalidRequest(field, "has no source: exactly one of text, token_ids is needed")
    if source == "text":
        return read_text(prompt.text, f"{field}.text", limits)
    return read_token_ids(prompt.token_ids.ids, f"{field}.token_ids.ids", limits)


def check_prompt_length(tokens: int, field: str, limits: Limits) -> None:
    """Checks that a prompt has at least one token and fits into the context."""
    if not 1 <= tokens <= limits.context_length:
        raise InvalidRequest(
            field, f"has {tokens} tokens, the range is 1 to {limits.context_length}"
        )


def read_sampling(message: types.SamplingParams, limits: Limits) -> SamplingParams:
    """How tokens are chosen, with defaults filled in and a seed picked where none is given."""
    field = "sampling"

    def number(name: str, default: float, low: float, high: float, *, over: bool = False) -> float:
        if not message.HasField(name):
            return default
        value = float(getattr(message, name))
        if not math.isfinite(value) or not low <= value <= high or (over and value == low):
            span = f"over {low:g} to {high:g}" if over else f"{low:g} to {high:g}"
            raise InvalidRequest(f"{field}.{name}", f"is {value:g}, the range is {span}")
        return value

    bias = message.logit_bias
    if len(bias) > limits.max_logit_bias:
        raise InvalidRequest(
            f"{field}.logit_bias",
            f"has {len(bias)} entries, the limit is {limits.max_logit_bias} (max_logit_bias)",
        )
    last = limits.vocabulary_size - 1
    for token_id, value in bias.items():
        name = f"{field}.logit_bias[{token_id}]"
        if token_id > last:
            raise InvalidRequest(name, f"is for id {token_id}, the range is 0 to {last}")
        if not math.isfinite(value) or abs(value) > 100:
            raise InvalidRequest(name, f"is {value:g}, the range is -100 to 100")
    return SamplingParams(
        temperature=number("temperature", 1.0, 0.0, 100.0),
        top_k=message.top_k,
        top_p=number("top_p", 1.0, 0.0, 1.0, over=True),
        min_p=number("min_p", 0.0, 0.0, 1.0),
        repetition_penalty=number("repetition_penalty", 1.0, 0.0, 100.0, over=True),
        presence_penalty=number("presence_penalty", 0.0, -100.0, 100.0),
        frequency_penalty=number("frequency_penalty", 0.0, -100.0, 100.0),
        logit_bias=tuple(sorted(bias.items())),
        seed=message.seed if message.HasField("seed") else secrets.randbits(64),
    )


def read_stop_params(
    message: types.StopConditions, prompt_tokens: int, eos: Many[int], limits: Limits
) -> StopParams:
    """When the engine ends a completion; stop strings are `read_stop_strings`'s."""
    field = "stop_conditions"
    # The last token that is chosen is not computed any more, hence one more than is left.
    room = limits.context_length - prompt_tokens + 1
    wanted = message.max_tokens if message.HasField("max_tokens") else room
    if wanted < 1:
        raise InvalidRequest(f"{field}.max_tokens", f"is {wanted}, the least is 1")
    max_tokens = min(wanted, room)
    if message.min_tokens > wanted:
        raise InvalidRequest(
            f"{field}.min_tokens",
            f"is {message.min_tokens}, the range is 0 to max_tokens, here {wanted}",
        )
    ids = message.stop_token_ids
    if len(ids) > limits.max_stop_token_ids:
        raise InvalidRequest(
            f"{field}.stop_token_ids",
            f"has {len(ids)} entries, the limit is {limits.max_stop_token_ids} "
            "(max_stop_token_ids)",
        )
    stop_token_ids = frozenset(read_token_ids(ids, f"{field}.stop_token_ids", limits))
    eos_token_ids = frozenset() if message.ignore_eos else frozenset(eos)
    if message.min_tokens and len(stop_token_ids | eos_token_ids) == limits.vocabulary_size:
        raise InvalidRequest(
            f"{field}.min_tokens",
            f"is {message.min_tokens}, the range is 0 to 0 where every token of the vocabulary "
            "ends the completion",
        )
    return StopParams(
        max_tokens=max_tokens,
        min_tokens=message.min_tokens,
        stop_token_ids=stop_token_ids,
        eos_token_ids=eos_token_ids,
        context_bound=max_tokens < wanted or not message.HasField("max_tokens"),
    )


def read_stop_strings(message: types.StopConditions, limits: Limits) -> tuple[str, ...]:
    """The texts that end a completion."""
    field = "stop_conditions.stop"
    if len(message.stop) > limits.max_stop:
        raise InvalidRequest(
            field, f"has {len(message.stop)} entries, the limit is {limits.max_stop} (max_stop)"
        )
    for index, text in enumerate(message.stop):
        size = len(text.encode())
        if not 1 <= size <= limits.max_stop_bytes:
            raise InvalidRequest(
                f"{field}[{index}]",
                f"has {size} bytes, the range is 1 to {limits.max_stop_bytes} (max_stop_bytes)",
            )
    return tuple(message.stop)


def read_outputs(message: types.LogprobOptions, *, prompt: bool, limits: Limits) -> Outputs:
    """What each step tells."""
    if message.top_logprobs > limits.max_top_logprobs:
        raise InvalidRequest(
            "logprobs.top_logprobs",
            f"is {message.top_logprobs}, the range is 0 to {limits.max_top_logprobs} "
            "(max_top_logprobs)",
        )
    ids = message.token_ids
    if len(ids) > limits.max_logprob_token_ids:
        raise InvalidRequest(
            "logprobs.token_ids",
            f"has {len(ids)} entries, the limit is {limits.max_logprob_token_ids} "
            "(max_logprob_token_ids)",
        )
    return Outputs(
        top=message.top_logprobs,
        token_ids=tuple(read_token_ids(ids, "logprobs.token_ids", limits)),
        full=message.full_vocabulary,
        prompt=prompt,
    )


def read_choices(message: pb.GenerateRequest, limits: Limits) -> int:
    """How many completions of the prompt are wanted."""
    if not message.HasField("n"):
        return 1
    if not 1 <= message.n <= limits.max_choices:
        raise InvalidRequest(
            "n", f"is {message.n}, the range is 1 to {limits.max_choices} (max_choices)"
        )
    if message.n > 1 and message.resume_token_ids:
        raise InvalidRequest(
            "resume_token_ids",
            f"has {len(message.resume_token_ids)} entries, the range is 0 to 0 where n is "
            f"{message.n}: go on with each completion by itself, with its own seed",
        )
    return message.n


def read_resume(ids: Many[int], max_tokens: int, limits: Limits) -> tuple[int, ...]:
    """The tokens that a client already has of a stream that broke."""
    if len(ids) > max_tokens:
        raise InvalidRequest(
            "resume_token_ids", f"has {len(ids)} entries, the range is 0 to {max_tokens}"
        )
    return tuple(read_token_ids(ids, "resume_token_ids", limits))
