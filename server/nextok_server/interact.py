"""The rpc Interact: actions come in, answers go out, in order.

Knows: the stream of requests, what waits for what. Does not know: the engine, tensors.

Actions are read ahead and given to the engine at once, so that those on different branches are
computed in the same steps, while answers are written one after the other. What may be on its way is
bounded: there is an action that is being answered, whose events come at the reader's pace, and
besides it only so much as may be kept until its turn.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc
import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.action_stream import Actions, Requests
from nextok_server.branches import Branch, Branches
from nextok_server.errors import InvalidRequest, ServerError
from nextok_server.interact_requests import (
    Action,
    Constrain,
    Drop,
    Force,
    Sample,
    Start,
    Stop,
    read_action,
    read_start,
)
from nextok_server.interactions import Interaction
from nextok_server.outgoing import Outgoing
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.score_requests import Encode
from nextok_server.serving import Serving
from nextok_server.streams import Admission

_log = structlog.get_logger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds.

    Attributes:
        branch: That a branch keeps its slot with nothing to do.
        action: That a call goes without an action.
    """

    branch: float
    action: float


@dataclass(frozen=True, slots=True)
class _Pending:
    """An action that was read.

    Attributes:
        index: Its number.
        action: What is to be done, or the error that ends the call here.
        origin: The branch that it is about.
        branch: The branch that the answer is about; after a fork, the new one.
    """

    index: int
    action: Action | Exception
    origin: Branch | None = None
    branch: Branch | None = None

    @property
    def events(self) -> int:
        """How many come of it."""
        match self.action:
            case Force(token_ids=ids):
                return len(ids) + 1
            case Sample(count=count):
                return count + 1
            case Drop() | Stop() | Exception():
                return 0
            case _:
                return 1


class InteractService:
    """Serves calls of Interact.

    Args:
        serving: What calls are served with.
        constrain: Compiles forms.
        patience: How long things may take.
        begin: Makes what turns a call's events into answers.
    """

    def __init__(
        self,
        *,
        serving: Serving,
        constrain: Constrain,
        patience: Patience,
        begin: Callable[[Start], Interaction],
    ) -> None:
        self._serving = serving
        self._constrain = constrain
        self._patience = patience
        self._begin = begin

    async def serve(self, requests: Requests, context: Context) -> None:
        """Answers one call."""
        serving = self._serving
        runner, limits = serving.runner, serving.limits
        runner.check()
        actions = Actions(requests, runner, self._patience.action)
        first = await actions.next()
        if first is None:
            raise InvalidRequest("start", "is missing: the first message of a call has to begin it")
        start = await read_start(first, limits, serving.encode, self._constrain)
        with serving.admitted(context) as admission:
            branches = Branches(start, admission, runner, limits, secrets.token_bytes(16))
            outgoing = serving.outgoing(context, start.outputs)
            call = _Call(actions, branches, admission, self._begin(start), outgoing, runner)
            await call.run(limits, serving.encode, self._patience.branch)


class _Call:
    """One call, after it has begun."""

    def __init__(
        self,
        actions: Actions,
        branches: Branches,
        admission: Admission,
        interaction: Interaction,
        outgoing: Outgoing,
        runner: Runner,
    ) -> None:
        self._actions = actions
        self._branches = branches
        self._spend = admission.spend
        self._interaction = interaction
        self._outgoing = outgoing
        self._runner = runner
        # What was read and not answered yet, in order; the first so many of it are on their way.
        self._pending: deque[_Pending] = deque()
        self._ordered = 0
        self._events = 0
        self._news = asyncio.Event()

    async def run(self, limits: Limits, encode: Encode, idle_seconds: float) -> None:
        """Answers until the end.

        Raises:
            ServerError: Whatever ends the call otherwise.
        """
        room = asyncio.Semaphore(limits.max_pending_actions)
        root = self._branches.live[0]
        tasks = [
            asyncio.create_task(self._read(limits, encode, room)),
            asyncio.create_task(self._park(idle_seconds)),
        ]
        self._actions.outstanding += 1
        try:
            opening = await self._interaction.opening(root)
            await self._write(opening, self._interaction.prompt_tokens)
            self._actions.outstanding -= 1
            await self._answer_all(room)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        _log.info(
            "interacted",
            prompt_tokens=self._interaction.prompt_tokens,
            appended_tokens=self._interaction.appended,
        )

    # Reading.

    async def _read(self, limits: Limits, encode: Encode, room: asyncio.Semaphore) -> None:
        """Reads and checks actions until one ends the call."""
        index = 0
        ends = False
        while not ends:
            await room.acquire()
            index += 1
            try:
                pending = await self._next(index, limits, encode)
            except InvalidRequest as error:
                said = f"{error.description} (action {index})"
                pending = _Pending(index, InvalidRequest(error.field, said))
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the call in its turn
                pending = _Pending(index, error)
            self._pending.append(pending)
            self._actions.outstanding += 1
            self._order()
            self._news.set()
            ends = isinstance(pending.action, Stop | Exception)

    async def _next(self, index: int, limits: Limits, encode: Encode) -> _Pending:
        request = await self._actions.next()
        if request is None:
            return _Pending(index, Stop())
        action = await read_action(request, limits, encode)
        if isinstance(action, Stop):
            return _Pending(index, action)
        number = request.branch_id if request.HasField("branch_id") else None
        origin = self._branches.find(number)
        branch, action = self._branches.note(origin, action)
        return _Pending(index, action, origin, branch)

    def _order(self) -> None:
        """Gives the engine what is answered next, and of what follows as much as may be kept."""
        while self._ordered < len(self._pending):
            pending = self._pending[self._ordered]
            if self._ordered and self._events + pending.events > self._branches.budget:
                return
            if pending.events:
                assert pending.origin is not None
                assert pending.branch is not None
                assert not isinstance(pending.action, Exception)
                try:
                    self._branches.order(pending.origin, pending.branch, pending.action)
                except ServerError as error:
                    self._pending[self._ordered] = replace(pending, action=error)
            self._events += pending.events if self._ordered else 0
            self._ordered += 1

    # Answering.

    async def _answer_all(self, room: asyncio.Semaphore) -> None:
        while True:
            while not self._pending:
                self._news.clear()
                await self._news.wait()
            pending = self._pending[0]
            if isinstance(pending.action, Exception):
                raise pending.action
            await self._answer(pending, pending.action)
            self._pending.popleft()
            self._actions.outstanding -= 1
            self._ordered -= 1
            if self._pending and self._ordered:
                # It is the one that is answered now, and no more beside that.
                self._events -= self._pending[0].events
            self._order()
            room.release()
            if isinstance(pending.action, Stop):
                return

    async def _answer(self, pending: _Pending, action: Action) -> None:
        if pending.branch is None:
            await self._write(self._interaction.end(pending.index), 0)
            return
        if isinstance(action, Drop):
            assert pending.branch.stream is not None
            self._runner.cancel(pending.branch.stream)
        assert pending.origin is not None
        messages = self._interaction.answers(pending.index, pending.origin, pending.branch, action)
        async for message in messages:
            await self._write(message, max(1, len(message.steps)))

    async def _write(self, message: pb.InteractResponse, tokens: int) -> None:
        """Writes an answer, after what it cost was paid."""
        await asyncio.sleep(self._spend(tokens))
        await self._outgoing.write(message)
        self._actions.since = time.monotonic()

    async def _park(self, seconds: float) -> None:
        """Gives slots back that nothing was done with for so long."""
        delay = seconds
        while True:
            await asyncio.sleep(delay)
            delay = self._branches.park_idle(seconds)
