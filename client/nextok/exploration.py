"""A running exploration, read by a plain loop.

Knows the sync call of grpc. What was read is kept by `ExploreTranscript`. `async_exploration` is
this file's twin.
"""

from __future__ import annotations

from typing import Any

import grpc

from nextok.errors import Unavailable, error_from_rpc
from nextok.explore_transcript import ExploreTranscript
from nextok.reading import Reading
from nextok.trees import ExploreNode, ExploreSummary


class Exploration(Reading[ExploreNode]):
    """A running exploration: an iterator of a tree's nodes, the likeliest first.

    The call is cancelled when a `with` around it is left, when `cancel` is called, and when
    the exploration is no longer referred to. After its end, nothing of that does anything.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._transcript: ExploreTranscript = ExploreTranscript()

    @property
    def nodes(self) -> tuple[ExploreNode, ...]:
        """The nodes that were read so far."""
        return tuple(self._transcript.nodes)

    @property
    def summary(self) -> ExploreSummary | None:
        """The whole tree, counted; None before the end."""
        return self._transcript.summary

    def children(self, node_id: int = 0) -> tuple[ExploreNode, ...]:
        """The children of a node that were read so far, the likeliest first; 0 is the prompt."""
        return self._transcript.children(node_id)

    def path(self, node_id: int) -> tuple[ExploreNode, ...]:
        """The nodes from the prompt's child to a node.

        Raises:
            KeyError: No such node was read.
        """
        return self._transcript.path(node_id)

    def text(self, node_id: int) -> str:
        """The text from the prompt to a node, without the prompt.

        Raises:
            KeyError: No such node was read.
        """
        return self._transcript.text(node_id)

    def read_nodes(self) -> tuple[ExploreNode, ...]:
        """Reads the rest, and returns all nodes.

        Raises:
            NextokError: The call failed.
        """
        for _ in self:
            pass
        return self.nodes

    def cancel(self) -> None:
        """Cancels the call, from any thread. Whoever still reads it gets `Cancelled`."""
        self._call.cancel()

    def _receive(self) -> bool:
        try:
            message = next(self._call)
        except StopIteration:
            return False
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            if self._transcript.summary is not None and isinstance(failure, Unavailable):
                return False  # nothing but the status was lost
            raise failure from error
        self._transcript.add(message)
        return True
