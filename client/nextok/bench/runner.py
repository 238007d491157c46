"""Sends a plan to a server and notes when what came.

Knows the call of grpc.aio, and no more of a message than how many steps it has: measured, the
plain stub costs two thirds of what AsyncClient's values cost, half of what threads cost, and no
more than leaving the messages unparsed. The time is taken as a message is handed to the reader.
"""

# ruff: noqa: ASYNC109 - a timeout here is the call's deadline, which the server is told.
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any, Final, Protocol

import grpc

from nextok import replies
from nextok.bench.exchange import OK, Exchange
from nextok.bench.plan import Phase, PlannedRequest
from nextok.bench.settings import Settings
from nextok.channel import ChannelOptions, channel_options
from nextok.errors import Internal, NextokError, error_from_rpc
from nextok.requests import generate_request, logprob_options, sampling_params, stop_conditions
from nextok.security import Connection
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1.text_generation_pb2_grpc import TextGenerationServiceStub

# How long a stream of a closed loop waits after a failure where the server names no time:
# it must not spend the machine on being refused.
_PAUSE_SECONDS: Final = 0.1

_Spawn = Callable[[Coroutine[Any, Any, object]], None]


class Call(Protocol):
    """A stream of messages, as grpc.aio has it."""

    async def read(self) -> pb.GenerateResponse | object:
        """Returns the next message, or grpc.aio.EOF."""

    def cancel(self) -> bool:
        """Gives it up."""


Generate = Callable[[pb.GenerateRequest], Call]


class Recording:
    """What came of a load so far; it stays readable when the load is interrupted.

    Attributes:
        exchanges: Every request that was sent.
        done: Set when the last measured request has ended.
        ended_at: When that was, or when the load was interrupted; None before that.
        cpu_seconds: Processor time that this process took from the first measured request on.
    """

    def __init__(self, measured: int) -> None:
        self.exchanges: list[Exchange] = []
        self.done = asyncio.Event()
        self.ended_at: float | None = None
        self.cpu_seconds = 0.0
        self._left = measured
        self._cpu_before: float | None = None

    def begin(self, request: PlannedRequest, *, due: float, sent: float) -> Exchange:
        """Notes that a request is sent."""
        if self._cpu_before is None and request.phase is Phase.MEASURED:
            self._cpu_before = time.process_time()
        exchange = Exchange(request.phase, due, sent)
        self.exchanges.append(exchange)
        return exchange

    def end(self, exchange: Exchange, now: float) -> None:
        """Notes that a request's stream ended."""
        exchange.ended = now
        if exchange.phase is Phase.MEASURED:
            self._left -= 1
            if self._left == 0:
                self.stop(now)

    def stop(self, now: float) -> None:
        """Notes that nothing more is measured. Only the first time counts."""
        if self.ended_at is None:
            self.ended_at = now
            if self._cpu_before is not None:
                self.cpu_seconds = time.process_time() - self._cpu_before
            self.done.set()


@asynccontextmanager
async def connect(
    target: str, *, connections: int, timeout: float | None, connection: Connection
) -> AsyncIterator[Generate]:
    """Opens connections to a server; gives its Generate, which takes them in turns.

    Args:
        target: HOST:PORT.
        connections: How many: a server limits the streams of each.
        timeout: Longest time for a call, in seconds.
        connection: How each is made.
    """
    # Channels of one target would share a connection otherwise.
    options = channel_options([*connection.options, ("grpc.use_local_subchannel_pool", 1)])
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(_channel(target, connection, options))
            for _ in range(connections)
        ]
        # Generated code has no types.
        stubs: list[Any] = [
            TextGenerationServiceStub(connection.authorize(channel))  # type: ignore[no-untyped-call]
            for channel in channels
        ]
        turns = cycle(stubs)
        yield lambda request: next(turns).Generate(request, timeout=timeout)


def _channel(target: str, connection: Connection, options: ChannelOptions) -> grpc.aio.Channel:
    if connection.credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, connection.credentials, options=options)


async def drive(
    generate: Generate, settings: Settings, requests: Iterator[PlannedRequest], recording: Recording
) -> None:
    """Puts a run's load on until its last measured request has ended.

    Args:
        generate: Starts a call.
        settings: A closed loop of some streams, or an open loop of some rate.
        requests: The plan, without end.
        recording: Where it is noted what comes.
    """
    running: set[asyncio.Task[object]] = set()
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, object]) -> None:
            task = group.create_task(work)
            running.add(task)
            task.add_done_callback(running.discard)

        try:
            if settings.streams is not None:
                for _ in range(settings.streams):
                    spawn(_stream(generate, settings, requests, recording))
            else:
                spawn(_arrivals(generate, settings, requests, recording, spawn))
            await recording.done.wait()
        finally:
            recording.stop(asyncio.get_running_loop().time())
            for task in tuple(running):
                task.cancel()


async def _stream(
    generate: Generate, settings: Settings, requests: Iterator[PlannedRequest], recording: Recording
) -> None:
    """Closed loop: sends the next request as soon as the one before has ended."""
    clock = asyncio.get_running_loop().time
    due = clock()
    for request in requests:
        exchange = await _exchange(generate, settings, request, due, recording)
        if not exchange.completed:
            await asyncio.sleep(exchange.retry_after or _PAUSE_SECONDS)
        due = clock()


async def _arrivals(
    generate: Generate,
    settings: Settings,
    requests: Iterator[PlannedRequest],
    recording: Recording,
    spawn: _Spawn,
) -> None:
    """Open loop: sends every request at its time, whatever became of those before."""
    clock = asyncio.get_running_loop().time
    start = clock()
    for request in requests:
        due = start + request.arrival
        await asyncio.sleep(max(0.0, due - clock()))
        spawn(_exchange(generate, settings, request, due, recording))


async def _exchange(
    generate: Generate,
    settings: Settings,
    request: PlannedRequest,
    due: float,
    recording: Recording,
) -> Exchange:
    """Sends one request and reads its stream to the end."""
    clock = asyncio.get_running_loop().time
    message = request_message(request, settings)
    exchange = recording.begin(request, due=due, sent=clock())
    call = generate(message)
    try:
        await _read(call, exchange, clock)
        exchange.status = OK
    except grpc.RpcError as error:
        _note(exchange, error_from_rpc(error))
    except NextokError as error:
        _note(exchange, error)
    finally:
        call.cancel()
    recording.end(exchange, clock())
    return exchange


async def _read(call: Call, exchange: Exchange, clock: Callable[[], float]) -> None:
    """Reads a stream, and makes sure that the server counted what came."""
    arrivals, counts = exchange.arrivals, exchange.counts
    while isinstance(message := await call.read(), pb.GenerateResponse):
        if message.steps:
            arrivals.append(clock())
            counts.append(len(message.steps))
        if message.HasField("summary"):
            exchange.summary = replies.generate_summary(message.summary)
    if exchange.summary is None:
        raise Internal(grpc.StatusCode.INTERNAL, "the stream ended without a summary")
    if (told := exchange.summary.usage.completion_tokens) != exchange.tokens:
        raise Internal(
            grpc.StatusCode.INTERNAL, f"{exchange.tokens} tokens came, the server counted {told}"
        )


def _note(exchange: Exchange, error: NextokError) -> None:
    exchange.status = error.code.name
    exchange.details = error.details
    exchange.retry_after = error.retry_after


def request_message(request: PlannedRequest, settings: Settings) -> pb.GenerateRequest:
    """Builds the message of a request.

    No token ends it early: a completion has the length that was planned.
    """
    message = generate_request(
        request.prompt,
        sampling=sampling_params(
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            seed=settings.seed,
        ),
        stop_conditions=stop_conditions(max_tokens=request.max_tokens, ignore_eos=True),
        logprobs=logprob_options(top_logprobs=settings.top_logprobs),
    )
    if settings.drafts is not None:
        message.drafts = settings.drafts
    message.bypass_prefix_reuse = settings.bypass_prefix_reuse
    return message
