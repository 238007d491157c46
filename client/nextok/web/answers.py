"""Answers whose work ends when the client goes away.

Knows ASGI and server-sent events. Does not know what is computed. The work runs in one task, which
is cancelled as soon as the connection is closed: cancelled calls free their slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from nextok.errors import NextokError
from nextok.web.refusals import Refusal, refusal_of

_EVENT_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # Proxies that collect answers before they pass them on are told not to.
    (b"x-accel-buffering", b"no"),
)


class JsonAnswer:
    """One JSON object, once the work is done; or the refusal that it ended with."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, as ASGI asks for it."""

        async def answer() -> None:
            try:
                response = JSONResponse(await self._work())
            except (Refusal, NextokError) as error:
                response = refused(error)
            await response(scope, receive, send)

        await _while_connected(receive, answer())


class EventStream:
    """Server-sent events, each as it comes.

    What fails before the first event is answered with a status of its own; after that, in an
    event.

    Args:
        events: Their data: objects that become JSON, and texts that stand as they are.
    """

    def __init__(self, events: AsyncGenerator[Any, None]) -> None:
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, as ASGI asks for it."""
        await _while_connected(receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        try:
            async with contextlib.aclosing(self._events) as events:
                async for data in events:
                    if not begun:
                        headers = list(_EVENT_HEADERS)
                        start = {"type": "http.response.start", "status": 200, "headers": headers}
                        await send(start)
                        begun = True
                    await _send_part(send, event(data))
        except (Refusal, NextokError) as error:
            if not begun:
                await refused(error)(scope, receive, send)
                return
            await _send_part(send, event(_refusal(error).body))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event(data: Any) -> bytes:
    """One event. JSON has no line ends of its own, so one line of data holds it."""
    shown = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f"data: {shown}\n\n".encode()


def refused(error: Refusal | NextokError) -> JSONResponse:
    """The answer for what is not done."""
    refusal = _refusal(error)
    return JSONResponse(refusal.body, refusal.status, dict(refusal.headers))


async def on_fault(_: Request, __: Exception) -> JSONResponse:
    """What Starlette calls for everything that nobody thought of; it is in the log."""
    return refused(Refusal(500, "this door failed; its log says how"))


async def on_refusal(_: Request, error: Exception) -> JSONResponse:
    """What Starlette calls for a refusal that an endpoint raised."""
    assert isinstance(error, Refusal)  # it is registered for these
    return refused(error)


def _refusal(error: Refusal | NextokError) -> Refusal:
    return error if isinstance(error, Refusal) else refusal_of(error)


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Runs the work, and gives it up when the client goes away."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_gone(receive))
    both = (working, watching)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)
    if not working.cancelled():
        working.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
