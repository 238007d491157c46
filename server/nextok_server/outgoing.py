"""A stream's messages on their way out, at the reader's pace.

Knows: gRPC's writing side, the runner's streams, how large a message may get. Does not know: what
the messages say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Many
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from nextok_server.errors import ReaderTooSlow
from nextok_server.events import Event
from nextok_server.runner import Runner
from nextok_server.sequence import Outputs
from nextok_server.streams import Admission, Stream
from nextok_server.write_limit import WriteLimit

# Events that one message holds at most: some 3 MB where each has a whole vocabulary.
_EVENTS_PER_MESSAGE = 256
_FULL_EVENTS_PER_MESSAGE = 16
# Steps with a whole vocabulary that may be unread, at 0.2 MB apiece.
_FULL_VOCABULARY_WINDOW = 8

Told = tuple[Stream, list[Event]]


class Teller(Protocol):
    """Makes messages of what a sequence does.

    Attributes:
        finished: Whether the last message was made.
    """

    finished: bool

    def reply(self, events: list[Event]) -> Message:
        """What to send for some events; may be empty."""


class Group(Protocol):
    """Makes messages of what several sequences do."""

    @property
    def finished(self) -> bool:
        """Whether the last message was made."""

    def replies(self, told: Many[Told]) -> Iterable[bytes]:
        """What to send for some events."""

    def over(self) -> Iterable[Stream]:
        """Sequences that nothing is needed of any more."""


class Outgoing:
    """Writes one rpc's messages.

    Args:
        context: Of the rpc.
        runner: Whose streams are forwarded.
        outputs: What each event holds.
        limit: How long a message may be left unread.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        runner: Runner,
        outputs: Outputs,
        limit: WriteLimit,
    ) -> None:
        self._context = context
        self._runner = runner
        self._most = most_events(outputs)
        self._limit = limit

    async def write(self, message: Message | bytes) -> None:
        """Writes a message, encoded or not.

        Raises:
            ReaderTooSlow: It was not taken in time.
            asyncio.CancelledError: The client has left.
        """
        writing = self._limit.begin()
        try:
            await self._context.write(message)
        except asyncio.CancelledError:
            if writing.was_given_up():
                seconds = self._limit.seconds
                raise ReaderTooSlow(f"a message was not read within {seconds:g} s") from None
            raise
        except grpc.aio.InternalError:
            # What gRPC says of a message that it still held when the client left, if it comes to
            # that before it cancels the handler.
            raise asyncio.CancelledError from None
        finally:
            self._limit.end(writing)

    async def forward(self, stream: Stream, teller: Teller) -> None:
        """Writes what a stream tells, as it comes, until the teller has finished."""
        while not teller.finished:
            for events in _batched(await stream.read(), self._most):
                message = teller.reply(events)
                if message.ByteSize():
                    await self.write(message)
                self._runner.acknowledge(stream, len(events))
                if teller.finished:
                    break

    async def forward_all(self, admission: Admission, streams: Many[Stream], group: Group) -> None:
        """Writes what a request's streams tell, as it comes, until the group has finished."""
        while not group.finished:
            for told in _batched_together(await admission.read(streams), self._most):
                for message in group.replies(told):
                    await self.write(message)
                for stream, events in told:
                    self._runner.acknowledge(stream, len(events))
                for stream in group.over():
                    self._runner.cancel(stream)


def most_events(outputs: Outputs) -> int:
    """Events that one message holds at most."""
    return _FULL_EVENTS_PER_MESSAGE if outputs.full else _EVENTS_PER_MESSAGE


def window(outputs: Outputs, most: int, streams: int = 1) -> int:
    """Events that a reader may be behind on each of so many streams, at most `most`."""
    return min(most, max(1, _FULL_VOCABULARY_WINDOW // streams)) if outputs.full else most


def _batched(events: list[Event], most: int) -> Iterator[list[Event]]:
    for start in range(0, len(events), most):
        yield events[start : start + most]


def _batched_together(told: list[Told], most: int) -> Iterator[list[Told]]:
    """The same for several streams, in their order."""
    if sum(len(events) for _, events in told) <= most:
        yield told
        return
    batch: list[Told] = []
    left = most
    for stream, events in told:
        start = 0
        while start < len(events):
            part = events[start : start + left]
            batch.append((stream, part))
            start, left = start + len(part), left - len(part)
            if not left:
                yield batch
                batch, left = [], most
    if batch:
        yield batch
