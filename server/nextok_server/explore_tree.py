"""A tree of likely continuations: which nodes it has, in which order, and what to look at next.

Knows: probabilities of paths. Does not know: how they are computed, nor when; the wire.

The tree has the nodes within a depth, a width and a probability, and lists them the likeliest
first, as measured from the root. A node is no likelier than its parent, so the next one is always
the likeliest of those whose parents are listed, once the children of the last one listed are
known. Those of other nodes may be asked for before it is their turn: that changes when nodes can be
listed, and nothing else.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from nextok_server.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a tree reaches.

    Attributes:
        depth: Tokens from the root to the deepest node.
        width: Most children of a node.
        min_probability: Of a node, from the root.
        nodes: Most that are listed.
    """

    depth: int
    width: int
    min_probability: float
    nodes: int


@dataclass(slots=True, eq=False)
class Node:
    """A node, known from when its parent's children are.

    Attributes:
        number: Its place in the list, from 1; 0 before it has one, and for the root.
        parent: None for the root.
        depth: Tokens from the root.
        cumulative: Log probability from the root.
        candidate: Its token; None for the root.
        asked: Whether its children were asked for.
        children: Those that belong to the tree, the likeliest first; None where not known.
        is_leaf: Whether no node that is listed continues it.
    """

    parent: Node | None
    depth: int
    cumulative: float
    candidate: Candidate | None
    number: int = 0
    asked: bool = False
    children: list[Node] | None = None
    is_leaf: bool = True

    @property
    def path(self) -> tuple[int, ...]:
        """Its tokens, from the root's child on."""
        tokens: list[int] = []
        node: Node | None = self
        while node is not None and node.candidate is not None:
            tokens.append(node.candidate.token_id)
            node = node.parent
        return tuple(reversed(tokens))


class Tree:
    """Grows from a root whose children are the first to be looked for.

    Args:
        bounds: How far it reaches.

    Attributes:
        root: Stands for the prompt.
        listed: The nodes so far.
        expanded: How many of them, and the root, have had their children looked for.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.root = Node(None, 0, 0.0, None, asked=True)
        self.listed: list[Node] = []
        self.expanded = 0
        self._bounds = bounds
        least = bounds.min_probability
        self._least = math.log(least) if least > 0 else -math.inf
        self._asked = 0
        # Nodes whose children nobody was asked for, and nodes whose parents are listed; both by
        # what comes first.
        self._open: list[tuple[float, int, Node]] = []
        self._next: list[tuple[float, int, int, Node]] = []
        # Whose children have to be known before another node can be listed.
        self._last: Node | None = self.root
        self._arrivals = count()

    @property
    def is_full(self) -> bool:
        """Whether as many nodes are listed as may be."""
        return len(self.listed) >= self._bounds.nodes

    @property
    def is_complete(self) -> bool:
        """Whether all its nodes are listed."""
        return self._last is None and not self._next

    @property
    def leaf_mass(self) -> float:
        """Probability of all nodes that are listed, and that no node listed continues."""
        return math.fsum(math.exp(node.cumulative) for node in self.listed if node.is_leaf)

    def ask(self) -> Node | None:
        """The likeliest node whose children nobody was asked for; None where there is none.

        No more are given than a list of that many nodes can need, unless it waits for one.
        """
        waits = self._last is not None and not self._last.asked
        if not self._open or (self._asked >= self._bounds.nodes - 1 and not waits):
            return None
        self._asked += 1
        node = heapq.heappop(self._open)[2]
        node.asked = True
        return node

    def tell(self, node: Node, candidates: Iterable[Candidate]) -> None:
        """Says what may follow a node, the likeliest first."""
        depth = node.depth + 1
        node.children = []
        for candidate in candidates:
            cumulative = node.cumulative + candidate.logprob
            if len(node.children) == self._bounds.width or cumulative < self._least:
                break
            child = Node(node, depth, cumulative, candidate)
            node.children.append(child)
            if depth < self._bounds.depth:
                heapq.heappush(self._open, (-cumulative, next(self._arrivals), child))

    def list_known(self) -> Iterator[Node]:
        """Lists, as far as is known, what comes next."""
        while not self.is_full:
            if self._last is not None:
                if self._last.children is None:
                    return
                self._expand(self._last, self._last.children)
                self._last = None
            if not self._next:
                return
            node = heapq.heappop(self._next)[3]
            self.listed.append(node)
            node.number = len(self.listed)
            if node.parent is not None:
                node.parent.is_leaf = False
            if node.depth < self._bounds.depth:
                self._last = node
            yield node

    def _expand(self, node: Node, children: list[Node]) -> None:
        self.expanded += 1
        for rank, child in enumerate(children):
            heapq.heappush(self._next, (-child.cumulative, node.number, rank, child))
