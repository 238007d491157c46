"""The web application, in this process or in one of its own, in front of a server of any kind."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from nextok import AsyncClient
from nextok.web.serving import Listening, serve


@contextlib.asynccontextmanager
async def running_web(target: str, **listening: Any) -> AsyncIterator[str]:
    """Serves it in this process; gives the page's address."""
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


@contextlib.contextmanager
def program(module: str, *arguments: str, says: str) -> Iterator[str]:
    """Runs a program; gives the last word of the first line that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        try:
            line = process.stdout.readline()
            assert line.startswith(says), line
            yield line.split()[-1]
        finally:
            # Whatever a test has found: leaving `with` waits for the end.
            process.terminate()
            process.stdout.read()


def web_program(target: str) -> contextlib.AbstractContextManager[str]:
    """`nextok web` as its users start it; gives the page's address."""
    arguments = ("web", "--target", target, "--listen", "127.0.0.1:0")
    return program("nextok", *arguments, says="nextok: the page is at ")
