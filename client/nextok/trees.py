"""The values that exploring gives: frozen, and named as on the wire.

Every class holds the fields of one message of nextok.v1, under their names and in their order.
Knows no gRPC and no protobuf; how messages become values is in `replies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nextok.candidates import Candidate
from nextok.values import Timings, Usage


class ExploreEnd(StrEnum):
    """Why a tree ended."""

    UNSPECIFIED = "unspecified"
    """Not told, or a reason that is newer than this client."""
    COMPLETE = "complete"
    """Every node within depth, width and probability was sent."""
    NODES = "nodes"
    """max_nodes were sent, and there may be more."""
    SECONDS = "seconds"
    """max_seconds passed."""


@dataclass(frozen=True, slots=True)
class ExploreNode:
    """A node of a tree: one token after those of its parents.

    Attributes:
        node_id: Number of the node, from 1.
        parent_id: The node that it continues; 0 is the prompt.
        depth: Tokens after the prompt, from 1.
        candidate: The token; its probabilities are those after its parent.
        cumulative_logprob: Log probability of the whole path from the prompt.
    """

    node_id: int
    parent_id: int
    depth: int
    candidate: Candidate
    cumulative_logprob: float


@dataclass(frozen=True, slots=True)
class ExploreSummary:
    """A tree, counted.

    Attributes:
        nodes: Nodes sent.
        expanded: Nodes sent whose children were looked for, and the root.
        leaf_mass: Probability of all leaves together: of the nodes that none continues.
        usage: Tokens; the nodes count as completion tokens.
        timings: Time; `prefill_seconds` ends when the root's children are known,
            `decode_seconds` with the last node.
        computed_tokens: Tokens that the model computed.
        end: Why it ended.
    """

    nodes: int
    expanded: int
    leaf_mass: float
    usage: Usage
    timings: Timings
    computed_tokens: int
    end: ExploreEnd
