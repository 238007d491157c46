"""What an exploration has sent so far.

Knows the messages of an Explore stream. Does not know how they arrive, which is why the sync and
the asyncio exploration share it.
"""

from __future__ import annotations

from collections import defaultdict, deque

from nextok import notebook, replies
from nextok.tokens import NO_TOKENS
from nextok.trees import ExploreNode, ExploreSummary
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import PromptInfo


class ExploreTranscript:
    """What an exploration has sent so far, and which nodes were handed out.

    `nodes` and what is made of them hold those that `take` has handed out.
    """

    def __init__(self) -> None:
        self.prompt: PromptInfo | None = None
        self.nodes: list[ExploreNode] = []
        self.summary: ExploreSummary | None = None
        self._waiting: deque[ExploreNode] = deque()
        self._by_id: dict[int, ExploreNode] = {}
        self._children: defaultdict[int, list[ExploreNode]] = defaultdict(list)

    def add(self, message: pb.ExploreResponse) -> None:
        """Takes in the next message of the stream."""
        if message.HasField("prompt"):
            self.prompt = replies.prompt_info(message.prompt)
        self._waiting.extend(map(replies.explore_node, message.nodes))
        if message.HasField("summary"):
            self.summary = replies.explore_summary(message.summary)

    def take(self) -> ExploreNode | None:
        """Hands out the next node that has arrived, if one has."""
        if not self._waiting:
            return None
        node = self._waiting.popleft()
        self.nodes.append(node)
        self._by_id[node.node_id] = node
        self._children[node.parent_id].append(node)
        return node

    def children(self, node_id: int) -> tuple[ExploreNode, ...]:
        """A node's children, the likeliest first; 0 is the prompt."""
        return tuple(self._children.get(node_id, ()))

    def path(self, node_id: int) -> tuple[ExploreNode, ...]:
        """The nodes from the prompt's child to a node.

        Raises:
            KeyError: There is no such node.
        """
        found: list[ExploreNode] = []
        while node_id:
            node = self._by_id[node_id]
            found.append(node)
            node_id = node.parent_id
        return tuple(reversed(found))

    def text(self, node_id: int) -> str:
        """The text from the prompt to a node, without the prompt.

        Raises:
            KeyError: There is no such node.
        """
        data = b"".join([node.candidate.bytes for node in self.path(node_id)])
        return data.decode("utf-8", "replace")

    def __repr__(self) -> str:
        state = self.summary.end if self.summary else "not finished"
        return f"{len(self.nodes)} nodes, {state}"

    def _repr_html_(self) -> str:
        prompt = self.prompt.tokens if self.prompt else NO_TOKENS
        return notebook.tree(prompt, self.nodes, self.summary)
