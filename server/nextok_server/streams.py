"""The event loop's ends of what runs.

Knows: the event loop, the call that a request belongs to. Does not know: threads, gRPC.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence as Many

from nextok_server import current_call
from nextok_server.errors import ServerError
from nextok_server.events import Event, Failed
from nextok_server.sequence import Sequence


class Admission:
    """A request's place among those that run or wait: one, however many sequences it has.

    Attributes:
        streams: Its sequences that have not ended.
        open: Whether it may start more.
        begun: Whether anything of it was computed and told.
        spend: Told of each sequence's tokens as it ends.
        party: Whom it belongs to.
        ready: Set when something became known of one of its sequences.
    """

    def __init__(self) -> None:
        self.spend = current_call.spending.get()
        self.party = current_call.party.get()
        self.streams: set[Stream] = set()
        self.open = True
        self.begun = False
        self.ready = asyncio.Event()

    @property
    def waits(self) -> bool:
        """Whether nothing of it is computed yet, but something is to be."""
        started = self.begun or any(stream.sequence.started_at for stream in self.streams)
        return bool(self.streams) and not started

    async def read(self, streams: Many[Stream]) -> list[tuple[Stream, list[Event]]]:
        """What became known of some of its sequences, at least one event of one.

        Raises:
            EngineFailed: The engine stopped.
        """
        while True:
            await self.ready.wait()
            self.ready.clear()
            told = [(stream, events) for stream in streams if (events := stream.take())]
            if told:
                return told


class Stream:
    """The event loop's end of one sequence.

    Attributes:
        told_at: `time.monotonic()` when something became known last.
    """

    def __init__(self, sequence: Sequence, admission: Admission) -> None:
        self.sequence = sequence
        self.admission = admission
        self._events: list[Event] = []
        self._error: ServerError | None = None
        self._ready = asyncio.Event()
        self.told_at = time.monotonic()

    async def read(self) -> list[Event]:
        """Everything that became known since the last call, at least one event.

        Raises:
            EngineFailed: The engine stopped.
        """
        await self._ready.wait()
        return self.take()

    def take(self) -> list[Event]:
        """The same without waiting; may be none.

        Raises:
            EngineFailed: The engine stopped.
            InvalidRequest: The sequence's constraint cannot be followed any further.
        """
        if self._error is not None and not self._events:
            raise self._error
        events, self._events = self._events, []
        if self._error is None:
            self._ready.clear()
        else:
            # It is raised when somebody comes for what is behind these.
            self.admission.ready.set()
        return events

    def put(self, events: list[Event]) -> None:
        """Adds events; called on the event loop."""
        if events and isinstance(last := events[-1], Failed):
            self._error, events = last.error, events[:-1]
        self._events.extend(events)
        self.told_at = time.monotonic()
        self._wake()

    def fail(self, error: ServerError) -> None:
        """Ends the stream with an error, after the events that it already has."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self._ready.set()
        self.admission.ready.set()
