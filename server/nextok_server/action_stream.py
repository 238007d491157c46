"""The requests of one Interact call, as they come, and how long they are waited for.

Knows: gRPC's stream of requests, time. Does not know: what actions do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import wire
from nextok_server.errors import CallerIdle, Draining
from nextok_server.runner import Runner

Requests = AsyncIterator[pb.InteractRequest | wire.Malformed]


class Actions:
    """Reads one call's requests.

    Attributes:
        outstanding: Actions that are not answered yet: while there are any, nobody waits for the
            caller.
        since: `time.monotonic()` when the caller was last heard of or told something.

    Args:
        requests: Of the call.
        runner: Tells when the server stops.
        patience: Seconds that may pass without one.
    """

    def __init__(self, requests: Requests, runner: Runner, patience: float) -> None:
        self._requests = requests
        self._runner = runner
        self._patience = patience
        self.outstanding = 0
        self.since = time.monotonic()

    async def next(self) -> pb.InteractRequest | None:
        """The next request; None where the client ended them.

        Raises:
            InvalidRequest: It cannot be parsed.
            CallerIdle: None came in time.
            Draining: The server is stopping.
        """
        receiving = asyncio.ensure_future(self._receive())
        draining = asyncio.ensure_future(self._runner.draining.wait())
        try:
            while not receiving.done():
                if draining.done():
                    raise Draining("the server is stopping and takes no more actions")
                left = self.since + self._patience - time.monotonic()
                if self.outstanding:
                    left = self._patience
                if left <= 0:
                    raise CallerIdle(f"no action came within {self._patience:g} s")
                await asyncio.wait(
                    (receiving, draining), timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
            return receiving.result()
        finally:
            receiving.cancel()
            draining.cancel()

    async def _receive(self) -> pb.InteractRequest | None:
        try:
            request = await anext(self._requests)
        except StopAsyncIteration:
            return None
        self.since = time.monotonic()
        if isinstance(request, wire.Malformed):
            raise request.error
        return request
