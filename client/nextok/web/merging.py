"""Several streams read as one.

Knows asyncio. Does not know what is in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# Pieces that wait for the reader, for each stream. Beyond, the streams themselves wait.
_WAITING = 4


async def merged(sources: Sequence[AsyncIterator[T]]) -> AsyncGenerator[T, None]:
    """Gives the pieces of all streams, in the order of their arrival.

    The first error of any stream ends all of them.
    """
    arrived: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue(
        _WAITING * len(sources)
    )

    async def pump(source: AsyncIterator[T]) -> None:
        failure = None
        try:
            async for piece in source:
                await arrived.put((piece, None, False))
        except Exception as error:  # noqa: BLE001 - raised where the pieces are read
            failure = error
        await arrived.put((None, failure, True))

    pumps = [asyncio.create_task(pump(source)) for source in sources]
    running = len(pumps)
    try:
        while running:
            piece, failure, ended = await arrived.get()
            if failure is not None:
                raise failure
            if ended:
                running -= 1
            else:
                yield piece  # type: ignore[misc] # what has not ended is a piece
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
