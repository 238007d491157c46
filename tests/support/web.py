"""The web application served in this process, in front of a server of any kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from nextok import AsyncClient
from nextok.web.serving import Listening, serve


@contextlib.asynccontextmanager
async def running_web(target: str, **listening: Any) -> AsyncIterator[str]:
    """Gives the page's address."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[str] = loop.create_future()
    listening = {"address": "127.0.0.1:0", **listening}
    async with AsyncClient(target) as client:
        serving = asyncio.create_task(serve(client, Listening(**listening), ready=ready.set_result))
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield ready.result()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
