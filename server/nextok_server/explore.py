"""The rpc Explore: the tree of likely continuations.

Knows: the wire, the runner. Does not know: how a tree grows, the engine, tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many

import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import trees
from nextok_server.exploration import Exploration
from nextok_server.explore_requests import ExploreTask, read_explore
from nextok_server.handlers import Context
from nextok_server.outgoing import Outgoing
from nextok_server.replies import Replies
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.score_requests import Encode
from nextok_server.sequence import Outputs
from nextok_server.streams import Admission
from nextok_server.write_limit import WriteLimit

_log = structlog.get_logger(__name__)


class ExploreService:
    """Serves calls of Explore.

    Args:
        runner: Runs what is expanded.
        limits: Of requests.
        encode: Text to token ids.
        prompt_info: What a prompt was read as.
        replies: Builds messages.
        write_limit: How long a message may be left unread.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        limits: Limits,
        encode: Encode,
        prompt_info: Callable[[Many[int]], pb.PromptInfo],
        replies: Replies,
        write_limit: WriteLimit,
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._encode = encode
        self._prompt_info = prompt_info
        self._replies = replies
        self._write_limit = write_limit

    async def serve(self, request: pb.ExploreRequest, context: Context) -> None:
        """Answers one call."""
        self._runner.check()
        task = await read_explore(request, self._limits, self._encode)
        admission = self._runner.admit()
        # Besides `finally` below: a handler that is torn down may not get to it in time.
        context.add_done_callback(lambda _: self._runner.leave(admission))  # type: ignore[arg-type]
        try:
            await self._stream(task, admission, context)
        finally:
            self._runner.leave(admission)

    async def _stream(self, task: ExploreTask, admission: Admission, context: Context) -> None:
        exploration = Exploration(task, self._runner, admission)
        outgoing = Outgoing(context, self._runner, Outputs(), self._write_limit)
        try:
            await outgoing.write(pb.ExploreResponse(prompt=self._prompt_info(task.prompt)))
            async for nodes in exploration.grow():
                for message in trees.messages(nodes, self._replies):
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
