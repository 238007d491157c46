"""Arguments into messages of nextok.v1.

Knows the generated messages. Refuses only what no message can hold, naming the argument;
whether a value makes sense is for the server to say. `None` leaves a field absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from google.protobuf.message import Message

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

M = TypeVar("M", bound=Message)


def tokenize_request(text: str) -> pb.TokenizeRequest:
    """Builds the request of Tokenize."""
    request = pb.TokenizeRequest()
    _set(request, "text", text)
    return request


def detokenize_request(token_ids: Iterable[int]) -> pb.DetokenizeRequest:
    """Builds the request of Detokenize."""
    request = pb.DetokenizeRequest()
    _extend(request, "token_ids", token_ids)
    return request


def prompt_message(prompt: str | Sequence[int], argument: str = "prompt") -> types.Prompt:
    """Builds a prompt from text, or from token ids.

    Args:
        prompt: Text or ids.
        argument: What errors call it.

    Raises:
        TypeError: It is neither.
        ValueError: The text has a lone surrogate, or an id is not in 0 to 2**32 - 1.
    """
    message = types.Prompt()
    if isinstance(prompt, str):
        _set(message, "text", prompt, argument)
    elif isinstance(prompt, (bytes, bytearray, memoryview)):
        # These are sequences of small integers too, and would pass for ids.
        raise TypeError(f"{argument}: bytes are neither text nor token ids; decode them first")
    else:
        # An empty list is a source as well, if one that the server refuses.
        message.token_ids.SetInParent()
        _extend(message.token_ids, "ids", prompt, argument)
    return message


def sampling_params(
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
) -> types.SamplingParams:
    """Builds how tokens are chosen."""
    message = types.SamplingParams()
    _set(message, "temperature", temperature)
    _set(message, "top_k", top_k)
    _set(message, "top_p", top_p)
    _set(message, "min_p", min_p)
    _set(message, "repetition_penalty", repetition_penalty)
    _set(message, "presence_penalty", presence_penalty)
    _set(message, "frequency_penalty", frequency_penalty)
    _set(message, "seed", seed)
    for token_id, bias in (logit_bias or {}).items():
        try:
            message.logit_bias[token_id] = bias
        except (TypeError, ValueError) as error:
            _refuse("logit_bias", {token_id: bias}, error)
    return message


def stop_conditions(
    *,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    stop: str | Sequence[str] = (),
    stop_token_ids: Sequence[int] = (),
    ignore_eos: bool = False,
) -> types.StopConditions:
    """Builds when to end. One stop string may stand without a list around it."""
    message = types.StopConditions()
    _set(message, "max_tokens", max_tokens)
    _set(message, "min_tokens", min_tokens)
    _extend(message, "stop", [stop] if isinstance(stop, str) else stop)
    _extend(message, "stop_token_ids", stop_token_ids)
    _set(message, "ignore_eos", ignore_eos)
    return message


def logprob_options(
    *,
    top_logprobs: int | None = None,
    logprob_token_ids: Sequence[int] = (),
    full_vocabulary: bool = False,
) -> types.LogprobOptions:
    """Builds what each step tells."""
    message = types.LogprobOptions()
    _set(message, "top_logprobs", top_logprobs)
    _extend(message, "token_ids", logprob_token_ids, "logprob_token_ids")
    _set(message, "full_vocabulary", full_vocabulary)
    return message


def constraint(
    *,
    json_schema: str | bool | Mapping[str, Any] | None = None,
    regex: str | None = None,
    grammar: str | None = None,
    choices: Sequence[str] | None = None,
) -> types.Constraint | None:
    """Builds the form that a completion has to keep to, if one is given.

    Raises:
        ValueError: More than one is, or the schema is not JSON.
    """
    given = {
        "json_schema": json_schema,
        "regex": regex,
        "grammar": grammar,
        "choices": choices,
    }
    names = [name for name, value in given.items() if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"{', '.join(names)}: only one of them can be given")
    message = types.Constraint()
    if choices is not None:
        if isinstance(choices, str):
            # A sequence of one-letter texts otherwise, which nobody means.
            raise TypeError("choices: a str is one text; put it into a list")
        # No choices are a kind as well, if one that the server refuses.
        message.choices.SetInParent()
        _extend(message.choices, "texts", choices, "choices")
    elif json_schema is not None:
        _set(message, "json_schema", _json(json_schema))
    else:
        _set(message, names[0], given[names[0]])
    return message


def generate_request(
    prompt: str | Sequence[int],
    *,
    sampling: types.SamplingParams,
    stop_conditions: types.StopConditions,
    logprobs: types.LogprobOptions,
    n: int | None = None,
    prompt_logprobs: bool = False,
    bypass_prefix_reuse: bool = False,
    drafts: bool | None = None,
    constraint: types.Constraint | None = None,
    resume_token_ids: Sequence[int] = (),
) -> pb.GenerateRequest:
    """Builds the request of Generate from its parts."""
    request = pb.GenerateRequest(
        prompt=prompt_message(prompt),
        sampling=sampling,
        stop_conditions=stop_conditions,
        logprobs=logprobs,
        constraint=constraint,
    )
    _set(request, "n", n)
    _set(request, "prompt_logprobs", prompt_logprobs)
    _set(request, "bypass_prefix_reuse", bypass_prefix_reuse)
    _set(request, "drafts", drafts)
    _extend(request, "resume_token_ids", resume_token_ids)
    return request


def score_request(
    prompt: str | Sequence[int],
    *,
    continuations: Sequence[str | Sequence[int]],
    logprobs: types.LogprobOptions,
    stride: int | None = None,
    bypass_prefix_reuse: bool = False,
    priority: int | None = None,
) -> pb.ScoreRequest:
    """Builds the request of Score from its parts."""
    if isinstance(continuations, str):
        # A sequence of one-letter texts otherwise, which nobody means.
        raise TypeError("continuations: a str is one text; put it into a list")
    request = pb.ScoreRequest(prompt=prompt_message(prompt), logprobs=logprobs)
    request.continuations.extend(map(prompt_message, continuations))
    _set(request, "stride", stride)
    _set(request, "bypass_prefix_reuse", bypass_prefix_reuse)
    _set(request, "priority", priority)
    return request


def filled(message: M, **fields: object) -> M:
    """Returns a message with fields set that are called as their arguments are.

    Raises:
        TypeError: A field holds no value of this type.
        ValueError: A field cannot hold this value.
    """
    for field, value in fields.items():
        _set(message, field, value)
    return message


def _json(schema: str | bool | Mapping[str, Any]) -> str:
    if isinstance(schema, str):
        return schema
    try:
        return json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"json_schema: {error}") from None


def _set(message: Message, field: str, value: object, argument: str | None = None) -> None:
    if value is None:
        return
    try:
        setattr(message, field, value)
    except (TypeError, ValueError) as error:
        _refuse(argument or field, value, error)


def _extend(
    message: Message, field: str, values: Iterable[object], argument: str | None = None
) -> None:
    container: Any = getattr(message, field)
    try:
        container.extend(values)
    except (TypeError, ValueError) as error:
        _refuse(argument or field, values, error)


def _refuse(argument: str, value: object, error: TypeError | ValueError) -> NoReturn:
    """Raises protobuf's own complaint again, with the argument's name."""
    reason = str(error)
    if isinstance(error, UnicodeEncodeError):
        reason = f"character {error.start} is half of a surrogate pair, which UTF-8 cannot hold"
    elif reason.startswith("bad argument type"):
        reason = f"a {type(value).__name__} does not fit"
    # Where a number is out of range, or has another type, protobuf says so itself.
    kind = TypeError if isinstance(error, TypeError) else ValueError
    raise kind(f"{argument}: {reason}") from None
