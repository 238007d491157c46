"""ExploreRequest to our own values: what is read there, and refused.

Knows the wire message, the limits, the tokenizer's `encode` as something to await. Does not know:
the engine, gRPC.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.errors import InvalidRequest
from nextok_server.explore_tree import Bounds
from nextok_server.requests import Limits, check_prompt_length, read_prompt

Encode = Callable[[str], Awaitable[list[int]]]

_DEPTH, _WIDTH = 4, 8


@dataclass(frozen=True, slots=True)
class ExploreTask:
    """A tree to grow.

    Attributes:
        prompt: Token ids, at least one.
        bounds: How far it reaches.
        seconds: Longest time.
        priority: Higher ones are started first.
        bypass_prefix_reuse: Takes nothing that other requests computed.
    """

    prompt: tuple[int, ...]
    bounds: Bounds
    seconds: float
    priority: int
    bypass_prefix_reuse: bool


async def read_explore(request: pb.ExploreRequest, limits: Limits, encode: Encode) -> ExploreTask:
    """Validates a request; nothing of it is computed.

    Raises:
        InvalidRequest: Names the field, the value and the range.
    """
    width = _whole(request, "max_width", _WIDTH, limits.max_top_logprobs, "max_top_logprobs")
    most = limits.max_explore_nodes
    nodes = _whole(request, "max_nodes", most, most, "max_explore_nodes")
    least = request.min_probability
    if not 0 <= least <= 1:
        raise InvalidRequest("min_probability", f"is {least:g}, the range is 0 to 1")
    seconds = _read_seconds(request, limits)
    source = read_prompt(request.prompt, "prompt", limits)
    field = "prompt.text" if isinstance(source, str) else "prompt.token_ids"
    ids = await encode(source) if isinstance(source, str) else source
    check_prompt_length(len(ids), field, limits)
    # The deepest nodes are not computed, hence one more than is left.
    room = limits.context_length - len(ids) + 1
    where = f"what the context has room for behind {len(ids)} tokens"
    depth = _whole(request, "max_depth", _DEPTH, room, where)
    return ExploreTask(
        prompt=tuple(ids),
        bounds=Bounds(depth, width, least, nodes),
        seconds=seconds,
        priority=request.priority,
        bypass_prefix_reuse=request.bypass_prefix_reuse,
    )


def _whole(request: pb.ExploreRequest, field: str, default: int, most: int, why: str) -> int:
    if not request.HasField(field):
        return min(default, most)
    value: int = getattr(request, field)
    if not 1 <= value <= most:
        raise InvalidRequest(field, f"is {value}, the range is 1 to {most} ({why})")
    return value


def _read_seconds(request: pb.ExploreRequest, limits: Limits) -> float:
    most = limits.max_explore_seconds
    if not request.HasField("max_seconds"):
        return most
    seconds = request.max_seconds
    if not math.isfinite(seconds) or not 0 < seconds <= most:
        raise InvalidRequest(
            "max_seconds", f"is {seconds:g}, the range is over 0 to {most:g} (max_explore_seconds)"
        )
    return seconds
