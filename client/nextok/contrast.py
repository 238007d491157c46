"""Two sides of one text, followed by plain code.

Knows how the sessions of a contrast are driven. What they say together is known by `Lockstep`.
`async_contrast` is this file's twin.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from nextok import actions
from nextok.lockstep import ContrastStep, Lockstep
from nextok.session import Session
from nextok.tokens import TextTokens
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import Step


class Contrast:
    """Two sides of one text: an iterator of steps, as they are computed.

    Its calls are cancelled when a `with` around it is left, when `cancel` is called, and when it
    is no longer referred to. After its end, nothing of that does anything.
    """

    def __init__(
        self,
        lockstep: Lockstep,
        open_session: Callable[[pb.InteractRequest], Session],
        tokenize: Callable[[str], TextTokens],
    ) -> None:
        self._lockstep = lockstep
        self._open_session = open_session
        self._tokenize = tokenize
        self._sessions: list[Session] = []

    @property
    def steps(self) -> tuple[ContrastStep, ...]:
        """The steps that were made so far."""
        return tuple(self._lockstep.steps)

    def cancel(self) -> None:
        """Cancels its calls, from any thread. Whoever still waits for them gets `Cancelled`."""
        for session in self._sessions:
            session.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ContrastStep:
        """Returns the next step.

        Raises:
            NextokError: A call failed; the steps before are kept.
        """
        lockstep = self._lockstep
        if not self._sessions:
            self._begin()
        if lockstep.finished:
            self.cancel()
            raise StopIteration
        return lockstep.compare(self._advance(lockstep.next_id))

    def _begin(self) -> None:
        if self._lockstep.text is not None:
            self._lockstep.follow(self._tokenize(self._lockstep.text).ids)
        self._sessions = [self._open_session(request) for request in self._lockstep.requests]
        for session in self._sessions:
            session.start()

    def _advance(self, token_id: int | None) -> list[Step]:
        """Appends one token everywhere; the first side draws it where none is given."""
        steps: list[Step] = []
        rest = self._sessions
        if token_id is None:
            drawn = rest[0].branch.sample()[0]
            steps, rest, token_id = [drawn], rest[1:], drawn.id
        # All are told before the first is waited for.
        pick = actions.pick(0, token_id)
        sent = [session._send([(pick, session._first)]) for session in rest]
        for session, pending in zip(rest, sent, strict=True):
            session._wait(pending)
            steps.extend(pending[0].steps)
        for session in self._sessions:
            # What was compared is not needed any more, and each has the whole vocabulary.
            session._first.steps.clear()
        return steps

    def __enter__(self) -> Self:
        return self

    def __exit__(
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
