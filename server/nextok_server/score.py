"""The rpc Score: how likely given tokens are.

Knows: the wire, the runner, what is started ahead. Does not know: the engine, tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many

import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.handlers import Context
from nextok_server.outgoing import Outgoing, window
from nextok_server.replies import Replies
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.score_plan import Part, ScoreTask, parts
from nextok_server.score_requests import Encode, read_score
from nextok_server.scores import Scores
from nextok_server.streams import Admission, Stream
from nextok_server.write_limit import WriteLimit

_log = structlog.get_logger(__name__)

# Parts of a scoring that are computed ahead of its reader. Continuations are short, and several
# take one pass; windows are computed one by one, and the next has only to be there.
_CONTINUATIONS_AHEAD = 16
_WINDOWS_AHEAD = 2


class ScoreService:
    """Serves calls of Score.

    Args:
        runner: Runs the parts.
        limits: Of requests.
        encode: Text to token ids.
        prompt_info: What a prompt was read as.
        replies: Builds messages.
        stream_window: Events that a reader may be behind.
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
        stream_window: int,
        write_limit: WriteLimit,
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._encode = encode
        self._prompt_info = prompt_info
        self._replies = replies
        self._window = stream_window
        self._write_limit = write_limit

    async def serve(self, request: pb.ScoreRequest, context: Context) -> None:
        """Answers one call."""
        self._runner.check()
        task = await read_score(request, self._limits, self._encode)
        admission = self._runner.admit()
        # Besides `finally` below: a handler that is torn down may not get to it in time.
        context.add_done_callback(lambda _: self._runner.leave(admission))  # type: ignore[arg-type]
        try:
            await self._stream(task, admission, context)
        finally:
            self._runner.leave(admission)

    async def _stream(self, task: ScoreTask, admission: Admission, context: Context) -> None:
        scores = Scores(task, self._replies)
        outgoing = Outgoing(context, self._runner, task.outputs, self._write_limit)
        await outgoing.write(pb.ScoreResponse(prompt=self._prompt_info(task.prompt)))
        for part, stream in self._started(task, admission):
            scores.begin(part, stream.sequence if stream else None)
            if stream is None:
                await outgoing.write(scores.reply([]))
            else:
                await outgoing.forward(stream, scores)
        await outgoing.write(pb.ScoreResponse(summary=scores.summary()))
        _log.info(
            "scored",
            prompt_tokens=len(task.prompt),
            continuations=len(task.continuations),
            computed_tokens=scores.computed,
        )

    def _started(
        self, task: ScoreTask, admission: Admission
    ) -> Iterator[tuple[Part, Stream | None]]:
        """The parts of a scoring, in order, each with its stream; some are started ahead."""
        few = task.outputs.full or not task.continuations
        most = _WINDOWS_AHEAD if few else _CONTINUATIONS_AHEAD
        ahead: deque[tuple[Part, Stream | None]] = deque()
        for part in parts(task, self._limits.context_length):
            stream = None
            if part.request is not None:
                events = window(task.outputs, self._window)
                stream = self._runner.start(admission, part.request, window=events)
            ahead.append((part, stream))
            if len(ahead) == most:
                yield ahead.popleft()
        yield from ahead
