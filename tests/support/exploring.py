"""Explore requests with flat names, what the answer said, and the same tree by brute force."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from support.serving import Running

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

# Of paths (N, T) the log probabilities (N, V) of what follows each.
Logprobs = Callable[[Sequence[Sequence[int]]], np.ndarray]


@dataclass
class Explored:
    """Everything that one Explore stream said."""

    messages: list[pb.ExploreResponse]

    @property
    def prompt(self) -> pb.PromptInfo:
        return self.messages[0].prompt

    @property
    def nodes(self) -> list[pb.ExploreNode]:
        return [node for message in self.messages for node in message.nodes]

    @property
    def summary(self) -> pb.ExploreSummary:
        return self.messages[-1].summary

    @property
    def usage(self) -> types.Usage:
        return self.summary.usage

    @property
    def paths(self) -> dict[tuple[int, ...], float]:
        """The tokens of each node's path, and its cumulative log probability."""
        return {
            path: node.cumulative_logprob
            for path, node in zip(self.ordered_paths, self.nodes, strict=True)
        }

    @property
    def ordered_paths(self) -> list[tuple[int, ...]]:
        """The tokens of each node's path, in the order of the nodes."""
        found: dict[int, tuple[int, ...]] = {0: ()}
        for node in self.nodes:
            found[node.node_id] = (*found[node.parent_id], node.candidate.id)
        return [found[node.node_id] for node in self.nodes]


def explore_request(prompt: str | Iterable[int], **fields: Any) -> pb.ExploreRequest:
    request = pb.ExploreRequest(**fields)
    if isinstance(prompt, str):
        request.prompt.text = prompt
    else:
        request.prompt.token_ids.ids.extend(prompt)
    return request


async def explore(running: Running, prompt: str | Iterable[int], **fields: Any) -> Explored:
    return await read_tree(running.stub.Explore(explore_request(prompt, **fields)))


async def read_tree(call: grpc.aio.UnaryStreamCall) -> Explored:
    """The rest of a stream, which `read` may have been called of before."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return Explored(messages)


def brute_force(
    logprobs: Logprobs, depth: int, width: int, min_probability: float = 0.0
) -> dict[tuple[int, ...], float]:
    """Every path within the bounds, with its cumulative log probability in float64."""
    least = math.log(min_probability) if min_probability else -math.inf
    found: dict[tuple[int, ...], float] = {}
    level: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(depth):
        if not level:
            break
        rows = logprobs(list(level))
        following: dict[tuple[int, ...], float] = {}
        for (path, cumulative), row in zip(level.items(), rows, strict=True):
            for token in _likeliest(row, width):
                if cumulative + row[token] >= least:
                    following[(*path, token)] = cumulative + float(row[token])
        found |= following
        level = following
    return found


def _likeliest(row: np.ndarray, count: int) -> list[int]:
    """The most likely tokens, ties by lower id."""
    among = np.flatnonzero(row >= np.partition(row, -count)[-count])
    return sorted(among.tolist(), key=lambda token: (-row[token], token))[:count]


def best_first(nodes: Iterable[pb.ExploreNode]) -> list[int]:
    """Numbers of nodes in the order in which they ought to come, by the slow and plain way."""
    children: dict[int, list[pb.ExploreNode]] = {}
    for node in nodes:
        children.setdefault(node.parent_id, []).append(node)

    def entries(parent: int) -> list[tuple[float, int, int, int]]:
        below = children.get(parent, [])
        return [(-n.cumulative_logprob, parent, n.candidate.rank, n.node_id) for n in below]

    waiting, order = entries(0), []
    heapq.heapify(waiting)
    while waiting:
        order.append(heapq.heappop(waiting)[3])
        for entry in entries(order[-1]):
            heapq.heappush(waiting, entry)
    return order
