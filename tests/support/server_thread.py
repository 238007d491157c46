"""A server on a thread with an event loop of its own, for tests that have none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextok_server.app import create_server
from nextok_server.config import Config


@contextlib.contextmanager
def server_thread(artifact: Path, **settings: Any) -> Iterator[str]:
    """Serves until the end of the block; yields where."""
    settings = {"spinning": False, "message_interval": 0.0, **settings}
    config = Config(artifact=artifact, listen="127.0.0.1:0", **settings)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()
    try:
        app = asyncio.run_coroutine_threadsafe(create_server(config), loop).result()
        yield f"127.0.0.1:{app.port}"
        asyncio.run_coroutine_threadsafe(app.stop(5.0), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
