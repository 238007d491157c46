"""A running exploration, read by an asyncio loop.

Knows the call of grpc.aio. What was read is kept by `ExploreTranscript`. `exploration` is this
file's twin.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from nextok.async_reading import AsyncReading, cancelled_here
from nextok.errors import Unavailable, error_from_rpc
from nextok.explore_transcript import ExploreTranscript
from nextok.trees import ExploreNode, ExploreSummary


class AsyncExploration(AsyncReading[ExploreNode]):
    """A running exploration: an asynchronous iterator of a tree's nodes, the likeliest first.

    The call is cancelled when an `async with` around it is left, when `cancel` is called, when
    the task that reads it is cancelled, and when the exploration is no longer referred to.
    After its end, nothing of that does anything.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._transcript: ExploreTranscript = ExploreTranscript()
        self._cancelled = False

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

    async def read_nodes(self) -> tuple[ExploreNode, ...]:
        """Reads the rest, and returns all nodes.

        Raises:
            NextokError: The call failed.
        """
        async for _ in self:
            pass
        return self.nodes

    def cancel(self) -> None:
        """Cancels the call. Whoever still reads it gets `Cancelled`."""
        self._cancelled = True
        self._call.cancel()

    async def _receive(self) -> bool:
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            # grpc.aio tells both in this way: see AsyncGeneration.
            task = asyncio.current_task()
            if self._cancelled and not (task and task.cancelling()):
                raise cancelled_here() from None
            raise
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            if self._transcript.summary is not None and isinstance(failure, Unavailable):
                return False  # nothing but the status was lost
            raise failure from error
        if message is grpc.aio.EOF:
            return False
        self._transcript.add(message)
        return True
