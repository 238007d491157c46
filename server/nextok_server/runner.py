"""The engine thread, and the two crossings between it and the event loop.

Knows: threads, the event loop, the bounds of the queue. Does not know: gRPC, text, tensors.

Inward: a queue of commands. Outward: at most one callback a step, for all streams together. A
stream's events collect until its reader comes for them, so a slow reader gets several at a time,
and a sequence pauses when its reader is a whole window behind.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable

import structlog

from nextok_server import interpreter
from nextok_server.engine import Engine, Events
from nextok_server.errors import Draining, EngineFailed, ServerError
from nextok_server.events import is_end
from nextok_server.forecast import Forecast
from nextok_server.giving_way import give_way
from nextok_server.orders import Fork, Order
from nextok_server.pacing import Pacing
from nextok_server.room import Room
from nextok_server.sequence import Request, Sequence
from nextok_server.streams import Admission, Stream

_log = structlog.get_logger(__name__)
_Command = Callable[[], None]
# Between two steps that only give memory back.
_TRIM_SECONDS = 0.2


class Runner:
    """Owns the engine's thread. All methods are called on the event loop.

    Attributes:
        slots: Sequences that are computed at the same time.
        steps: How often the thread went round.
        draining: Set once the server is stopping and takes nothing new.

    Args:
        engine: What the thread runs.
        pacing: When what it yields is told.
        slots: Requests that are computed at the same time.
        max_queue: Requests that may wait besides.
        gives_way: Whether the thread lets all other threads go first.
        on_death: Called on the event loop when the engine stops on a fault.
    """

    def __init__(
        self,
        engine: Engine,
        pacing: Pacing,
        *,
        slots: int,
        max_queue: int,
        gives_way: bool,
        on_death: Callable[[], None],
    ) -> None:
        self.slots = slots
        self._engine = engine
        self._forecast = Forecast(slots, engine.tally)
        self._room = Room(slots, max_queue, self._forecast)
        self._on_death = on_death
        self._pacing = pacing
        self._gives_way = gives_way
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._streams: dict[Sequence, Stream] = {}
        self._failure: ServerError | None = None
        self.draining = asyncio.Event()
        self._looking = False
        self._resting = False
        self.steps = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="nextok-engine", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Requests that are running or waiting."""
        return len(self._room)

    @property
    def is_due(self) -> bool:
        """Whether the thread owes a step: it has not stopped, and does not wait for work."""
        return self._thread.is_alive() and not self._resting

    def check(self) -> None:
        """Refuses at once what `admit` would refuse whatever is asked for."""
        self._refuse_all()
        self._room.check(0)

    def admit(self, tokens: int = 0) -> Admission:
        """Takes in a request that may have several sequences, until it leaves.

        Another one that waits may have to go for it; see `Room`.

        Args:
            tokens: That it is sure to draw, at least.

        Raises:
            QueueFull: There is no room to wait.
            QueueTooLong: It could not end in time, since others wait before it.
            DeadlineTooShort: It could not end in time.
            Draining: The server is stopping.
            EngineFailed: The engine has stopped.
        """
        self._refuse_all()
        leaves = self._room.check(tokens)
        if leaves is not None:
            error = self._room.full()
            for stream in tuple(leaves.streams):
                stream.fail(error)
            self.leave(leaves)
        self._idle.clear()
        return self._room.enter()

    def start(self, admission: Admission, request: Request, *, window: int) -> Stream:
        """Puts a sequence in the queue, behind those that wait.

        Args:
            admission: What it belongs to.
            request: What to run.
            window: Events that the reader may be behind before the sequence pauses.

        Raises:
            EngineFailed: The engine has stopped.
        """
        if self._failure is not None:
            raise self._failure
        stream = self._register(admission, request, window)
        self._put(lambda: self._engine.scheduler.add(stream.sequence))
        return stream

    def order(self, stream: Stream, order: Order) -> None:
        """Gives an open sequence something to do after what it has."""
        self._put(lambda: self._engine.order(stream.sequence, order))

    def order_all(self, orders: list[tuple[Stream, Order]]) -> None:
        """Gives several sequences something to do in the same step, where they can."""

        def give() -> None:
            for stream, order in orders:
                self._engine.order(stream.sequence, order)

        if orders:
            self._put(give)

    def fork(self, stream: Stream, request: Request, *, window: int) -> Stream:
        """Starts a sequence as a copy of an open one, once that has done what it was ordered to.

        It is lost if the open one is cancelled before. Arguments, beside the open sequence's
        stream, and errors are those of `start`; the request's prompt is the open one's.
        """
        if self._failure is not None:
            raise self._failure
        child = self._register(stream.admission, request, window)
        fork = Fork(child.sequence)
        self._put(lambda: self._engine.order(stream.sequence, fork))
        return child

    def park(self, stream: Stream) -> None:
        """Frees the slot of an open sequence that has nothing to do, until it has again."""
        self._put(lambda: self._engine.park(stream.sequence))

    def cancel(self, stream: Stream) -> None:
        """Gives a stream up; its slot is free before the next step. Safe to repeat."""
        if self._forget(stream):
            self._put(lambda: self._engine.cancel(stream.sequence))

    def leave(self, admission: Admission) -> None:
        """Gives up whatever a request still has running. Safe to repeat."""
        for stream in tuple(admission.streams):
            self.cancel(stream)
        admission.open = False
        self._release(admission)

    def acknowledge(self, stream: Stream, events: int) -> None:
        """Says that the reader took some events."""
        stream.sequence.read += events
        if self._looking:
            self._put(lambda: None)

    async def drain(self, seconds: float) -> None:
        """Takes nothing new and waits, at most `seconds`, for what is running."""
        self.draining.set()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("drain_timeout", left=len(self._streams), seconds=seconds)

    async def stop(self) -> None:
        """Ends the thread; streams that are still running fail."""
        self.draining.set()
        self._put(None)
        await asyncio.to_thread(self._thread.join)
        self._failure = Draining("the server stopped")
        self._fail_all(self._failure)

    def _put(self, command: _Command | None) -> None:
        """Has the thread run a command before it computes anything else; None ends it."""
        self._inbox.put(command)
        self._engine.interrupt()

    def _register(self, admission: Admission, request: Request, window: int) -> Stream:
        sequence = Sequence(request, window, admission.party)
        stream = self._streams[sequence] = Stream(sequence, admission)
        admission.streams.add(stream)
        return stream

    def _refuse_all(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.draining.is_set():
            raise Draining("the server is stopping and takes no new requests")

    def _forget(self, stream: Stream) -> bool:
        """Strikes a stream out; tells whether it was still there."""
        if self._streams.pop(stream.sequence, None) is None:
            return False
        stream.admission.streams.remove(stream)
        # Open sequences are rewound, copied and computed again: who orders that counts for them.
        if stream.sequence.started_at and not stream.sequence.request.open:
            stream.admission.spend(len(stream.sequence.tokens) - stream.sequence.shared)
        self._release(stream.admission)
        return True

    def _release(self, admission: Admission) -> None:
        """Frees a request's place once nothing of it is left or to come."""
        if not admission.open and not admission.streams:
            self._room.leave(admission)
            if not self._room:
                self._idle.set()

    # On the event loop, called from the thread.

    def _deliver(self, events: Events) -> None:
        for sequence, produced in events:
            stream = self._streams.get(sequence)
            if stream is None or not produced:
                continue
            stream.put(produced)
            stream.admission.begun = True
            # Not `sequence.finished`: the thread may be a step ahead of this one.
            if is_end(produced[-1]):
                self._forget(stream)
                self._forecast.note(time.monotonic() - sequence.started_at)

    def _die(self, failure: ServerError) -> None:
        self._failure = failure
        self._fail_all(failure)
        self._on_death()

    def _fail_all(self, error: ServerError) -> None:
        for stream in tuple(self._streams.values()):
            stream.fail(error)
            self._forget(stream)

    # On the thread.

    def _run(self) -> None:
        if self._gives_way:
            give_way()
        try:
            while self._take_commands():
                events = self._engine.step()
                self.steps += 1
                if events:
                    running = self._engine.scheduler.running
                    events = self._pacing.due(events, time.monotonic(), running)
                if events:
                    with interpreter.lent():  # to the loop, which this wakes up
                        self._loop.call_soon_threadsafe(self._deliver, events)
        except Exception:  # noqa: BLE001 - whatever it is, every waiter has to hear of it
            _log.exception("engine_failed")
            failure = EngineFailed("the engine stopped on a fault; the server's log has it")
            self._loop.call_soon_threadsafe(self._die, failure)

    def _take_commands(self) -> bool:
        """Runs what has come in; waits for something where there is nothing to compute.

        Returns:
            Whether to go on.
        """
        # Before the look at what has come in: what comes after it interrupts.
        self._engine.heed()
        if self._engine.goes_on and self._inbox.empty():
            return True
        try:
            while True:
                if self._inbox.empty():
                    # Before the look at what there is to do: an acknowledgement that comes after
                    # it wakes us. Only now: the look goes through all running sequences.
                    self._looking = True
                    self._resting = not self._engine.has_work
                patience = _TRIM_SECONDS if self._resting and self._engine.has_excess else None
                command = self._inbox.get(self._resting, patience)
                self._looking = self._resting = False
                if command is None:
                    return False
                command()
        except queue.Empty:
            return True
        finally:
            self._looking = self._resting = False
