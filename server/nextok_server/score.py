"""The rpc Score: how likely given tokens are.

Knows: the wire, the runner, what is started ahead. Does not know: the engine, tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.handlers import Context
from nextok_server.outgoing import window
from nextok_server.score_plan import Part, ScoreTask, parts
from nextok_server.score_requests import read_score
from nextok_server.scores import Scores
from nextok_server.serving import Serving
from nextok_server.streams import Admission, Stream

_log = structlog.get_logger(__name__)

# Parts of a scoring that are computed ahead of its reader. Continuations are short, and several
# take one pass; windows are computed one by one, and the next has only to be there.
_CONTINUATIONS_AHEAD = 16
_WINDOWS_AHEAD = 2


class ScoreService:
    """Serves calls of Score.

    Args:
        serving: What calls are served with.
        stream_window: Events that a reader may be behind.
    """

    def __init__(self, serving: Serving, stream_window: int) -> None:
        self._serving = serving
        self._window = stream_window

    async def serve(self, request: pb.ScoreRequest, context: Context) -> None:
        """Answers one call."""
        serving = self._serving
        task = await read_score(request, serving.limits, serving.encode)
        with serving.admitted(context) as admission:
            await self._stream(task, admission, context)

    async def _stream(self, task: ScoreTask, admission: Admission, context: Context) -> None:
        scores = Scores(task, self._serving.replies)
        outgoing = self._serving.outgoing(context, task.outputs)
        await outgoing.write(pb.ScoreResponse(prompt=self._serving.prompt_info(task.prompt)))
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
        for part in parts(task, self._serving.limits.context_length):
            stream = None
            if part.request is not None:
                events = window(task.outputs, self._window)
                stream = self._serving.runner.start(admission, part.request, window=events)
            ahead.append((part, stream))
            if len(ahead) == most:
                yield ahead.popleft()
        yield from ahead
