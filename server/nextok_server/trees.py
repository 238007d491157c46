"""A tree on its way to the wire: its nodes, and what they add up to.

Knows: the wire messages. Does not know: how the tree grows, gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.exploration import Exploration
from nextok_server.explore_tree import Node
from nextok_server.replies import Replies

# Nodes that a message holds at most: some 60 kB.
_NODES_PER_MESSAGE = 1024


def messages(nodes: Many[Node], replies: Replies) -> Iterator[pb.ExploreResponse]:
    """What to send for nodes that were listed."""
    for start in range(0, len(nodes), _NODES_PER_MESSAGE):
        response = pb.ExploreResponse()
        for node in nodes[start : start + _NODES_PER_MESSAGE]:
            replies.add_node(response.nodes, node)
        yield response


def summary(exploration: Exploration) -> pb.ExploreSummary:
    """The whole tree, counted."""
    tree, root = exploration.tree, exploration.root
    result = pb.ExploreSummary(
        nodes=len(tree.listed),
        expanded=tree.expanded,
        leaf_mass=tree.leaf_mass,
        usage=types.Usage(
            prompt_tokens=len(root.request.prompt),
            completion_tokens=len(tree.listed),
            cached_tokens=exploration.cached,
        ),
        computed_tokens=exploration.computed_tokens,
        end=exploration.end,
    )
    # Time may have passed before anything was computed.
    if root.started_at:
        result.timings.queue_seconds = root.started_at - root.arrived_at
    if exploration.first_at:
        result.timings.prefill_seconds = exploration.first_at - root.started_at
    if exploration.last_at:
        result.timings.decode_seconds = exploration.last_at - exploration.first_at
    return result
