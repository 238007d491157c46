"""The rpc Explore: the tree of likely continuations.

Knows: the wire, the runner. Does not know: how a tree grows, the engine, tensors.
"""

from __future__ import annotations

import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import trees
from nextok_server.exploration import Exploration
from nextok_server.explore_requests import ExploreTask, read_explore
from nextok_server.handlers import Context
from nextok_server.sequence import Outputs
from nextok_server.serving import Serving
from nextok_server.streams import Admission

_log = structlog.get_logger(__name__)


class ExploreService:
    """Serves calls of Explore.

    Args:
        serving: What calls are served with.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def serve(self, request: pb.ExploreRequest, context: Context) -> None:
        """Answers one call."""
        serving = self._serving
        task = await read_explore(request, serving.limits, serving.encode)
        with serving.admitted(context) as admission:
            await self._stream(task, admission, context)

    async def _stream(self, task: ExploreTask, admission: Admission, context: Context) -> None:
        exploration = Exploration(task, self._serving.runner, admission)
        outgoing = self._serving.outgoing(context, Outputs())
        try:
            await outgoing.write(pb.ExploreResponse(prompt=self._serving.prompt_info(task.prompt)))
            async for nodes in exploration.grow():
                for message in trees.messages(nodes, self._serving.replies):
                    await outgoing.write(message)
            await outgoing.write(pb.ExploreResponse(summary=trees.summary(exploration)))
        finally:
            admission.spend(exploration.computed_tokens)
        _log.info(
            "explored",
            prompt_tokens=len(task.prompt),
            nodes=len(exploration.tree.listed),
            computed_tokens=exploration.computed_tokens,
        )
