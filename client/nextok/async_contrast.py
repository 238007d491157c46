"""Two sides of one text, followed by an asyncio loop.

Knows how the sessions of a contrast are driven. What they say together is known by `Lockstep`.
`contrast` is this file's twin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from nextok import actions
from nextok.async_session import AsyncSession
from nextok.lockstep import ContrastStep, Lockstep
from nextok.tokens import TextTokens
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import Step


class AsyncContrast:
    """Two sides of one text: an asynchronous iterator of steps, as they are computed.

    Its calls are cancelled when an `async with` around it is left, when `cancel` is called, and
    when it is no longer referred to. After its end, nothing of that does anything.
    """

    def __init__(
        self,
        lockstep: Lockstep,
        open_session: Callable[[pb.InteractRequest], AsyncSession],
        tokenize: Callable[[str], Awaitable[TextTokens]],
    ) -> None:
        self._lockstep = lockstep
        self._open_session = open_session
        self._tokenize = tokenize
        self._sessions: list[AsyncSession] = []

    @property
    def steps(self) -> tuple[ContrastStep, ...]:
        """The steps that were made so far."""
        return tuple(self._lockstep.steps)

    def cancel(self) -> None:
        """Cancels its calls. Whoever still waits for them gets `Cancelled`."""
        for session in self._sessions:
            session.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ContrastStep:
        """Returns the next step.

        Raises:
            NextokError: A call failed; the steps before are kept.
        """
        lockstep = self._lockstep
        if not self._sessions:
            await self._begin()
        if lockstep.finished:
            self.cancel()
            raise StopAsyncIteration
        return lockstep.compare(await self._advance(lockstep.next_id))

    async def _begin(self) -> None:
        if self._lockstep.text is not None:
            self._lockstep.follow((await self._tokenize(self._lockstep.text)).ids)
        self._sessions = [self._open_session(request) for request in self._lockstep.requests]
        await asyncio.gather(*[session.start() for session in self._sessions])

    async def _advance(self, token_id: int | None) -> list[Step]:
        """Appends one token everywhere; the first side draws it where none is given."""
        steps: list[Step] = []
        rest = self._sessions
        if token_id is None:
            drawn = (await rest[0].branch.sample())[0]
            steps, rest, token_id = [drawn], rest[1:], drawn.id
        # All are told before the first is waited for.
        sent = [
            await session._send([(actions.pick(0, token_id), session._first)]) for session in rest
        ]
        for session, pending in zip(rest, sent, strict=True):
            await session._wait(pending)
            steps.extend(pending[0].steps)
        for session in self._sessions:
            # What was compared is not needed any more, and each has the whole vocabulary.
            session._first.steps.clear()
        return steps

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._lockstep!r}>"

    def _repr_html_(self) -> str:
        return self._lockstep._repr_html_()
