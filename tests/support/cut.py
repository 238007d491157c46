"""A connection to a server that is cut after so many bytes, wherever that is in a message."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

# What close() does with this set: a reset (RST) is sent, rather than an end (FIN).
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Cut:
    """A listener in front of a server.

    Attributes:
        port: Where it listens, until the connection is cut.
        sent: Bytes that came through from the server to the client.
        done: Whether the connection was cut.
    """

    port: int = 0
    sent: int = 0
    done: bool = False


@asynccontextmanager
async def cutting(address: str, *, after: int | None, reset: bool = False) -> AsyncIterator[Cut]:
    """Passes on what a server and its client say, until the server has sent `after` bytes.

    From then on nothing listens any more, as if the server's process were gone.

    Args:
        address: HOST:PORT of the server.
        after: None never cuts.
        reset: Whether the client is told by a reset rather than an end.
    """
    cut = Cut()
    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def to_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def to_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if after is not None and cut.sent + len(data) > after:
                data, cut.done = data[: after - cut.sent], True
                listener.close()
            cut.sent += len(data)
            writer.write(data)
            if cut.done:
                break
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*address.split(":"))
        tasks.append(asyncio.create_task(to_server(reader, server_writer)))
        tasks.append(asyncio.create_task(to_client(server_reader, writer)))
        writers.extend((writer, server_writer))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    cut.port = listener.sockets[0].getsockname()[1]
    try:
        yield cut
    finally:
        listener.close()
        # A client may keep its connection for longer than anybody uses it.
        for writer in writers:
            writer.transport.abort()
        closing = [writer.wait_closed() for writer in writers]
        await asyncio.gather(*tasks, *closing, return_exceptions=True)
