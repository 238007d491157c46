"""An interactive generation, steered by an asyncio loop.

Knows the call of grpc.aio: writing to it, reading it, ending it. What was answered is kept by
`Interaction`. `session` is this file's twin.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from nextok import actions
from nextok.async_branch import AsyncBranch
from nextok.async_reading import cancelled_here
from nextok.errors import Internal, NextokError, error_from_rpc
from nextok.interaction import (
    BranchState,
    Interaction,
    Pending,
    check_open,
)
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import GenerateSummary, PromptInfo, Step

T = TypeVar("T")

# Of 1,000 calls that a server refuses at once, some 5 lose their status on a busy machine.
_ATTEMPTS = 5


class AsyncSession:
    """An interactive generation: its branches, and what is common to them.

    To be used in an `async with`: that waits for the first answer, and leaving it ends the call,
    as do `stop`, `cancel`, that a task which waits for an answer is cancelled, and that nobody
    refers to it any more. Tasks may share it.
    """

    def __init__(self, open_call: Callable[[], Any], request: pb.InteractRequest) -> None:
        self._open_call = open_call
        self._call = open_call()
        self._attempts = 1
        self._write_failed = False
        self._interaction = Interaction(request)
        self._first = self._interaction.current
        # Actions are noted in the order in which they are sent.
        self._sending = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._cancelled = False
        self._failure: NextokError | None = None
        self._start: tuple[pb.InteractRequest, BranchState] = (request, self._first)
        self._begin: list[Pending] = []

    @property
    def prompt(self) -> PromptInfo:
        """What the prompt was read as; there from `start` on, which `async with` does.

        Raises:
            RuntimeError: The first answer has not come yet.
        """
        if self._interaction.prompt is None:
            raise RuntimeError("the prompt has not come yet: await start() first")
        return self._interaction.prompt

    @property
    def branch(self) -> AsyncBranch:
        """The branch that was switched to last; at first the only one."""
        return AsyncBranch(self, self._interaction.current)

    @property
    def branches(self) -> tuple[AsyncBranch, ...]:
        """All branches that were not dropped, by number."""
        return tuple([AsyncBranch(self, state) for state in self._interaction.branches.values()])

    @property
    def summary(self) -> GenerateSummary | None:
        """The whole call, counted; None before `stop`."""
        return self._interaction.summary

    async def start(self) -> PromptInfo:
        """Waits for the first answer, if it has not come yet, and returns the prompt.

        Raises:
            NextokError: The call failed.
        """
        await self._have_begun()
        prompt = self._interaction.prompt
        if prompt is None:
            raise Internal(grpc.StatusCode.INTERNAL, "the first answer has no prompt")
        return prompt

    async def switch(self, branch: AsyncBranch) -> None:
        """Makes a branch the current one.

        Raises:
            NextokError: The call failed.
            ValueError: The branch was dropped.
        """
        await self._do([(actions.switch(branch.branch_id), branch._state)])

    async def sample_all(
        self, count: int = 1, *, branches: Iterable[AsyncBranch] | None = None
    ) -> tuple[tuple[Step, ...], ...]:
        """Draws tokens on several branches at the same time: they are computed together.

        Args:
            count: How many on each.
            branches: On which. Default: on all.

        Returns:
            The steps of each branch, in the order of `branches`.

        Raises:
            NextokError: The call failed.
            ValueError: A branch was dropped, or `count` is less than 1.
        """
        chosen = self.branches if branches is None else tuple(branches)
        sent = [(actions.sample(b.branch_id, count, None), b._state) for b in chosen]
        return tuple([tuple(pending.steps) for pending in await self._do(sent)])

    async def force_all(
        self, tokens: Mapping[AsyncBranch, str | Sequence[int]]
    ) -> tuple[tuple[Step, ...], ...]:
        """Appends given tokens to several branches at the same time: they are computed together.

        Args:
            tokens: What each branch gets, as in `Branch.force`.

        Returns:
            The steps of each branch, in the order of `tokens`.

        Raises:
            NextokError: The call failed.
            ValueError: A branch was dropped, or what it gets does not fit.
        """
        sent = [(actions.force(b.branch_id, given), b._state) for b, given in tokens.items()]
        return tuple([tuple(pending.steps) for pending in await self._do(sent)])

    async def stop(self) -> GenerateSummary:
        """Ends the call, and returns it counted.

        Raises:
            NextokError: The call failed.
        """
        if self._interaction.summary is None:
            await self._do([(actions.stop(), self._interaction.current)])
            await self._call.done_writing()
        assert self._interaction.summary is not None
        return self._interaction.summary

    def cancel(self) -> None:
        """Cancels the call. Whoever still waits for it gets `Cancelled`."""
        self._cancelled = True
        self._call.cancel()

    async def _do(self, sent: Sequence[tuple[pb.InteractRequest, BranchState]]) -> list[Pending]:
        """Sends actions, all before the first answer is waited for, and waits for theirs."""
        for request, branch in sent:
            check_open(request, branch)
        await self._have_begun()
        pending = await self._send(sent)
        await self._wait(pending)
        return pending

    async def _have_begun(self) -> None:
        async with self._sending:
            unsent = not self._begin
            if unsent:
                self._begin = [self._interaction.expect(*self._start)]
        if unsent:
            await self._write(self._start[0])
        await self._wait(self._begin)

    async def _send(self, sent: Sequence[tuple[pb.InteractRequest, BranchState]]) -> list[Pending]:
        async with self._sending:
            pending = [self._interaction.expect(request, branch) for request, branch in sent]
            for request, _ in sent:
                await self._write(request)
        return pending

    async def _write(self, request: pb.InteractRequest) -> None:
        # Where the call has ended, reading it tells why.
        with contextlib.suppress(asyncio.InvalidStateError):
            try:
                await self._own(self._call.write(request))
            except grpc.RpcError:
                self._write_failed = True

    async def _wait(self, pending: Sequence[Pending]) -> None:
        for one in pending:
            while not one.done:
                # Whoever has the lock reads for all.
                async with self._reading:
                    if not one.done:
                        await self._receive()

    async def _receive(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            message = await self._own(self._call.read())
            if message is grpc.aio.EOF:
                raise RuntimeError("the session has ended")
            self._interaction.add(message)
        except grpc.RpcError as error:
            if self._lost_its_status(error):
                await self._begin_again()
                return
            self._failure = error_from_rpc(error)
            raise self._failure from error
        except NextokError as error:
            self._failure = error
            self._call.cancel()
            raise

    def _lost_its_status(self, error: grpc.RpcError) -> bool:
        """Whether grpc.aio may have put INTERNAL in the place of the server's own status.

        It does where a call ends while it is written to. Made again, before anything was
        answered, the call tells why the server refused it.
        """
        return (
            self._write_failed
            and error.code() is grpc.StatusCode.INTERNAL
            and self._interaction.prompt is None
            and self._attempts < _ATTEMPTS
            and not self._cancelled
        )

    async def _begin_again(self) -> None:
        self._attempts += 1
        self._write_failed = False
        self._call = self._open_call()
        await self._write(self._start[0])

    async def _own(self, operation: Awaitable[T]) -> T:
        """Waits for the call; that it was cancelled here is an error like others."""
        try:
            return await operation
        except asyncio.CancelledError:
            # grpc.aio tells in the same way that this task was cancelled, which has to go on.
            task = asyncio.current_task()
            if self._cancelled and not (task and task.cancelling()):
                raise cancelled_here() from None
            raise

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.cancel()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self._call.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._interaction!r}>"

    def _repr_html_(self) -> str:
        return "".join([branch._repr_html_() for branch in self.branches])
