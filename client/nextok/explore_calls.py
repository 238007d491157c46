"""The call that explores, its options spelled once for both clients.

Knows the options of Explore and how they become a request. Does not know how a call is made, nor
whether its result has to be awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from nextok.requests import filled, prompt_message
from nextok.v1 import text_generation_pb2 as pb

E = TypeVar("E")  # the exploration that the client returns, sync or asyncio


class ExploreCalls(ABC, Generic[E]):
    """Gives a client its `explore`."""

    @abstractmethod
    def _start_exploration(self, request: pb.ExploreRequest, *, timeout: float | None) -> E:
        """Starts the call."""

    def explore(
        self,
        prompt: str | Sequence[int],
        *,
        max_depth: int | None = None,
        max_width: int | None = None,
        min_probability: float | None = None,
        max_nodes: int | None = None,
        max_seconds: float | None = None,
        bypass_prefix_reuse: bool = False,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> E:
        """Grows the tree of likely continuations; its nodes come the likeliest first.

        A node's children are the tokens that the model finds most likely after it, in its raw
        distribution. `None` leaves an option to the server, whose default is named. Ranges are
        the server's to check. Errors are raised while the result is read.

        Args:
            prompt: Text, or token ids that are taken as they are.
            max_depth: Tokens from the prompt to the deepest node. Default 4.
            max_width: Most children of a node. Default 8.
            min_probability: Nodes that are less likely, as measured from the prompt, are left
                out. Default 0.
            max_nodes: Most nodes in all. Default: Limits.max_explore_nodes.
            max_seconds: After which the tree ends with the nodes that it has. Default:
                Limits.max_explore_seconds.
            bypass_prefix_reuse: Computes the whole prompt, whatever the server has kept of it.
            priority: Requests with a higher one are started first. Default 0.
            timeout: Seconds after which the call fails. Default: no limit.

        Returns:
            The exploration, an iterator of nodes.

        Raises:
            TypeError: An argument is of a type that no request can hold.
            ValueError: An argument does not fit a request: an id that is no uint32, a text
                with a lone surrogate.
        """
        request = filled(
            pb.ExploreRequest(prompt=prompt_message(prompt)),
            max_depth=max_depth,
            max_width=max_width,
            min_probability=min_probability,
            max_nodes=max_nodes,
            max_seconds=max_seconds,
            bypass_prefix_reuse=bypass_prefix_reuse,
            priority=priority,
        )
        return self._start_exploration(request, timeout=timeout)
