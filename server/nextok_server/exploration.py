"""A tree that grows: open sequences walk from node to node and tell what may follow.

Knows: the tree, the runner's open sequences. Does not know: tensors, when sequences run, the wire.

All walkers stand on the prompt, which is computed once, and each is sent to one node after another:
back to where the paths part, and on to the node. What it passes on the way is copied, from another
walker or from the shelf, so that a node mostly takes the computation of one token. Several walkers
are computed in one step, and each has its next node before it has reached the last one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.events import Event, Outlook
from nextok_server.explore_requests import ExploreTask
from nextok_server.explore_tree import Node, Tree
from nextok_server.orders import Order
from nextok_server.runner import Runner
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, StopParams
from nextok_server.streams import Admission, Stream

# Walkers, at most: more make a step's tokens hardly cheaper, and take slots from others.
_MOST_WALKERS = 16
# Nodes that a walker is sent to ahead of time.
_AHEAD = 2


@dataclass(slots=True, eq=False)
class _Walker:
    """An open sequence.

    Attributes:
        stream: Of it.
        path: Where it stands, behind the prompt, when it has done what it was told to.
        nodes: Those that it is on its way to; None for the root where another tells of that.
    """

    stream: Stream
    path: tuple[int, ...] = ()
    nodes: deque[Node | None] = field(default_factory=deque)

    def shared(self, path: tuple[int, ...]) -> int:
        """How many tokens of a path it is on already."""
        count = 0
        for ours, theirs in zip(self.path, path, strict=False):
            if ours != theirs:
                break
            count += 1
        return count


class Exploration:
    """One tree.

    Args:
        task: What is to be explored.
        runner: Of the engine.
        admission: The request's place.

    Attributes:
        tree: What is known of it.
        root: The sequence that computes the prompt.
        cached: Tokens of the prompt that were at hand.
        end: Why it ended; unspecified before that.
        first_at: `time.monotonic()` when the root's children were known; 0 before that.
        last_at: The same of the last node that was listed.
    """

    def __init__(self, task: ExploreTask, runner: Runner, admission: Admission) -> None:
        self.tree = Tree(task.bounds)
        self.end = pb.EXPLORE_END_UNSPECIFIED
        self.cached = 0
        self.first_at = self.last_at = 0.0
        self._task = task
        self._runner = runner
        self._admission = admission
        request = Request(
            task.prompt,
            SamplingParams(),
            StopParams(max_tokens=0),
            Outputs(top=task.bounds.width),
            priority=task.priority,
            bypass_prefix_reuse=task.bypass_prefix_reuse,
            family=secrets.token_bytes(16),
            open=True,
        )
        # A walker is told of its nodes one by one, and waits for as long as nobody has read that.
        window = _AHEAD + 1
        root = runner.start(admission, request, window=window)
        self._walkers = [_Walker(root, nodes=deque([self.tree.root]))]
        count = max(1, min(_MOST_WALKERS, runner.slots // 2)) if task.bounds.depth > 1 else 1
        for _ in range(count - 1):
            other = runner.fork(root, request, window=window)
            self._walkers.append(_Walker(other, nodes=deque([None])))
        self.root = root.sequence

    @property
    def computed_tokens(self) -> int:
        """Tokens that were computed for it."""
        return sum(walker.stream.sequence.processed for walker in self._walkers)

    async def grow(self) -> AsyncIterator[list[Node]]:
        """The tree's nodes in their order, as they become known; sets `end` when it has."""
        walkers = {walker.stream: walker for walker in self._walkers}
        deadline = self.root.arrived_at + self._task.seconds
        while self.end == pb.EXPLORE_END_UNSPECIFIED:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    told = await self._admission.read(tuple(walkers))
            except TimeoutError:
                self.end = pb.EXPLORE_END_SECONDS
                return
            for stream, events in told:
                self._note(walkers[stream], events)
            listed = list(self.tree.list_known())
            if self.tree.is_complete:
                self.end = pb.EXPLORE_END_COMPLETE
            elif self.tree.is_full:
                self.end = pb.EXPLORE_END_NODES
            else:
                # Before the nodes are written, so that the engine does not wait for that.
                self._send()
            if listed:
                self.last_at = time.monotonic()
                yield listed

    def _note(self, walker: _Walker, events: list[Event]) -> None:
        for event in events:
            assert isinstance(event, Outlook)
            if not self.first_at:
                # What it has from others later on is not the prompt's.
                self.first_at, self.cached = event.at, self.root.cached
            node = walker.nodes.popleft()
            if node is not None:
                self.tree.tell(node, event.distribution.top)
        self._runner.acknowledge(walker.stream, len(events))

    def _send(self) -> None:
        """Sends walkers that have little before them to the next nodes."""
        orders: list[tuple[Stream, Order]] = []
        while free := [walker for walker in self._walkers if len(walker.nodes) < _AHEAD]:
            node = self.tree.ask()
            if node is None:
                break
            path = node.path
            walker = min(free, key=lambda w: (len(w.nodes), -w.shared(path)))
            shared = walker.shared(path)
            # Its children are walked to only if they have children that belong to the tree.
            is_passed = node.depth + 1 < self._task.bounds.depth
            order = Order(
                rewind=len(walker.path) - shared, appended=path[shared:], shelved=is_passed
            )
            walker.path = path
            walker.nodes.append(node)
            orders.append((walker.stream, order))
        self._runner.order_all(orders)
