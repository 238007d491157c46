"""ScoreRequest to our own values: what is read there, and refused.

Knows: the wire message, the limits, the tokenizer's `encode` as something to await. Does not know:
the engine, gRPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.errors import InvalidRequest
from nextok_server.requests import Limits, read_outputs, read_prompt
from nextok_server.score_plan import ScoreTask
from nextok_server.windows import windows

Encode = Callable[[str], Awaitable[list[int]]]


async def read_score(request: pb.ScoreRequest, limits: Limits, encode: Encode) -> ScoreTask:
    """Validates a request; nothing of it is computed.

    Raises:
        InvalidRequest: Names the field, the value and the range.
    """
    outputs = read_outputs(request.logprobs, prompt=False, limits=limits)
    stride = _read_stride(request, limits)
    count = len(request.continuations)
    if count > limits.max_continuations:
        raise InvalidRequest(
            "continuations",
            f"has {count} entries, the limit is {limits.max_continuations} (max_continuations)",
        )
    prompt = await _read_tokens(request.prompt, "prompt", limits, encode)
    continuations = [
        await _read_tokens(message, f"continuations[{index}]", limits, encode)
        for index, message in enumerate(request.continuations)
    ]
    _check_work(len(prompt), [len(ids) for ids in continuations], stride, limits)
    return ScoreTask(
        prompt=prompt,
        continuations=tuple(continuations),
        outputs=outputs,
        stride=stride,
        priority=request.priority,
        bypass_prefix_reuse=request.bypass_prefix_reuse,
    )


def _read_stride(request: pb.ScoreRequest, limits: Limits) -> int:
    context = limits.context_length
    if not request.HasField("stride"):
        return max(1, context // 2)
    if not 1 <= request.stride <= context:
        raise InvalidRequest("stride", f"is {request.stride}, the range is 1 to {context}")
    return request.stride


async def _read_tokens(
    message: types.Prompt, field: str, limits: Limits, encode: Encode
) -> tuple[int, ...]:
    source = read_prompt(message, field, limits)
    if isinstance(source, str):
        path, ids = f"{field}.text", await encode(source)
    else:
        path, ids = f"{field}.token_ids", source
    # Given as text, it could not have more.
    if not 1 <= len(ids) <= limits.max_prompt_bytes:
        raise InvalidRequest(
            path,
            f"has {len(ids)} tokens, the range is 1 to {limits.max_prompt_bytes} "
            "(max_prompt_bytes)",
        )
    return tuple(ids)


def _check_work(prompt: int, continuations: list[int], stride: int, limits: Limits) -> None:
    """Checks how much there is to compute, given the tokens of each text."""
    texts = [(prompt + tokens, prompt) for tokens in continuations] or [(prompt, 1)]
    computed = 0
    for length, first in texts:
        for window in windows(length, first, limits.context_length, stride):
            computed += window.computed
            if computed > limits.max_score_tokens:
                raise InvalidRequest(
                    "stride",
                    f"is {stride}, with which more than {limits.max_score_tokens} tokens are "
                    "computed for these texts, the limit (max_score_tokens)",
                )
