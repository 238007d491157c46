"""Reliability 5: what no gRPC client would send neither ends the server nor disturbs a stream."""

from __future__ import annotations

import contextlib
import gzip
import random
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import h2.events
import h2.exceptions
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from support.h2_client import H2Client, message
from support.processes import free_slots, resident
from support.serving import generate_request
from support.traffic import Received, read

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc

SLOTS = 8
FLOOD = 2000
MOST_GROWTH = 32 << 20
ASKED = generate_request("hello", max_tokens=100, ignore_eos=True).SerializeToString()
TOKENIZE = message(pb.TokenizeRequest(text="hello").SerializeToString())


async def settle(client: H2Client) -> None:
    """Waits until the server has read all that was said, or has closed the connection."""
    with contextlib.suppress(h2.exceptions.ProtocolError):
        last = client.call("Tokenize", TOKENIZE)
        await client.flush()
        await client.wait_for((h2.events.StreamEnded, h2.events.StreamReset), last)


async def rapid_reset(client: H2Client) -> None:
    """Streams that are reset as soon as they are asked for (CVE-2023-44487)."""
    for _ in range(FLOOD):
        stream = client.call("Generate", message(ASKED))
        client.h2.reset_stream(stream)
    await settle(client)


async def made_you_reset(client: H2Client) -> None:
    """Streams that the server is made to reset (CVE-2025-8671): window updates of 0."""
    for _ in range(FLOOD // 4):
        stream = client.call("Generate", message(ASKED))
        client.frame(WindowUpdateFrame(stream, window_increment=1))
        client.raw(b"\0\0\4\x08\0" + stream.to_bytes(4, "big") + b"\0\0\0\0")
    await client.flush()


async def continuation_flood(client: H2Client) -> None:
    """A header block that never ends."""
    client.frame(HeadersFrame(1, data=b"\x82"))
    for number in range(FLOOD):
        name = f"x-{number:06}".encode()
        data = b"\0" + bytes([len(name)]) + name + b"\x7f\x61" + b"a" * 224
        client.frame(ContinuationFrame(1, data=data))
        if number % 100 == 0:
            await client.flush()
    await client.flush()


async def settings_flood(client: H2Client) -> None:
    for number in range(FLOOD):
        client.frame(SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535 + number}))
    await client.flush()


async def ping_flood(client: H2Client) -> None:
    for _ in range(FLOOD):
        client.frame(PingFrame(opaque_data=b"nextok!!"))
    await settle(client)


async def zero_window(client: H2Client) -> None:
    """Asks for much, and gives no room to send it."""
    client.acknowledging = False
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    for _ in range(SLOTS):
        client.call("Generate", message(ASKED))
    await client.flush()


async def giant_metadata(client: H2Client) -> None:
    """A megabyte of headers in one request."""
    block = client.h2.encoder.encode(
        client.headers("Tokenize", *((f"x-{n}", "v" * 4000) for n in range(250)))
    )
    pieces = [block[start : start + 16000] for start in range(0, len(block), 16000)]
    client.frame(HeadersFrame(1, data=pieces[0]))
    for piece in pieces[1:-1]:
        client.frame(ContinuationFrame(1, data=piece))
    client.frame(ContinuationFrame(1, data=pieces[-1], flags=["END_HEADERS"]))
    await client.flush()


async def bad_hpack(client: H2Client) -> None:
    """Headers that refer to what was never said, and noise."""
    client.frame(HeadersFrame(1, data=b"\xff\xff\xff\xff\x0f", flags=["END_HEADERS"]))
    await client.flush()


async def noise(client: H2Client) -> None:
    client.raw(random.Random(5).randbytes(10_000))
    await client.flush()


async def truncated_prefix(client: H2Client) -> None:
    """Messages that end before they are whole.

    gRPC's asyncio server never answers such calls; what counts is that they hold nothing else.
    """
    for body in (b"\0", b"\0\0\0", message(b"abc", length=50), message(ASKED)[:-3]):
        client.call("Generate", body)
    await settle(client)


async def oversized_prefix(client: H2Client) -> None:
    """Messages that say that they are very long."""
    for length in (1 << 21, 1 << 31, (1 << 32) - 1):
        client.call("Generate", message(ASKED, length=length), end=False)
    await settle(client)


async def compression_bomb(client: H2Client) -> None:
    """A small message that becomes a large one."""
    bomb = gzip.compress(bytes(48 << 20), 9)
    stream = client.call("Tokenize", b"", ("grpc-encoding", "gzip"), end=False)
    data = message(bomb, compressed=1)
    for start in range(0, len(data), 16000):
        size = min(16000, len(data) - start)
        if client.h2.local_flow_control_window(stream) < size:
            break
        client.h2.send_data(stream, data[start : start + size])
    client.h2.end_stream(stream)
    await client.flush()
    await client.wait_for(h2.events.StreamEnded, stream)


async def resets_for_strangers(client: H2Client) -> None:
    """Resets and windows of streams that there never were."""
    for number in range(1, FLOOD, 2):
        client.frame(RstStreamFrame(number, error_code=8))
    await settle(client)


ABUSES: list[Callable[[H2Client], Awaitable[None]]] = [
    rapid_reset,
    made_you_reset,
    continuation_flood,
    settings_flood,
    ping_flood,
    zero_window,
    giant_metadata,
    bad_hpack,
    noise,
    truncated_prefix,
    oversized_prefix,
    compression_bomb,
    resets_for_strangers,
]


async def disturbed_by(address: str, abuse: Callable[[H2Client], Awaitable[None]]) -> list[str]:
    """What is wrong after an abuse: of a stream that ran meanwhile, of the server, of its slots."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = pb_grpc.TextGenerationServiceStub(channel)
        asked = generate_request("hello", seed=5, max_tokens=120, ignore_eos=True)
        alone, meanwhile = Received(), Received()
        await read(stub.Generate(asked), alone)
        call = stub.Generate(asked)
        await read(call, meanwhile, 2)
        async with H2Client(address) as client:
            await abuse(client)
            await read(call, meanwhile)
            wrong = [] if meanwhile == alone else ["the stream is another one"]
            tokens = (await stub.Tokenize(pb.TokenizeRequest(text="hello"), timeout=30)).tokens
            wrong += [] if tokens else ["the server answers nothing"]
        if await free_slots(address, SLOTS) != SLOTS:
            wrong.append("slots are lost")
        return wrong


@pytest.fixture
def server(start, small):
    return start("--slots", str(SLOTS), "--write-timeout", "3", artifact=small["fp32"])


async def test_abuse_neither_ends_the_server_nor_disturbs_a_stream(server, figures):
    process, address = server
    assert await disturbed_by(address, ping_flood) == []
    before = resident(process.pid)
    rounds = 5 if figures.minutes else 1
    found = {}
    for abuse in ABUSES * rounds:
        if wrong := await disturbed_by(address, abuse):
            found[abuse.__name__] = wrong
    growth = resident(process.pid) - before
    figures.add(
        5,
        f"HTTP/2 abuse: {len(found)} of {len(ABUSES)} kinds disturb a running stream or the "
        f"server (bound: 0), {growth / 2**20:.1f} MB of growth (bound: 32)",
        kinds=len(ABUSES),
        rounds=rounds,
        disturbing=len(found),
        growth_bytes=growth,
    )
    assert found == {}
    assert process.poll() is None
    assert growth < MOST_GROWTH


async def test_the_check_finds_a_stream_that_was_disturbed(start, small):
    flags = ("--slots", str(SLOTS), "--message-interval", "0")
    _, address = start(*flags, artifact=small["fp32"], fault="flipped_bit")

    async def nothing(_client: H2Client) -> None:
        """One message in a hundred is wrong by itself."""

    found = [await disturbed_by(address, nothing) for _ in range(8)]
    assert any(found)


async def test_a_message_larger_than_the_limit_is_refused_however_small_it_was_sent(server):
    _, address = server
    async with H2Client(address) as client:
        await compression_bomb(client)
        (stream,) = {event.stream_id for event in client.events if hasattr(event, "headers")}
        assert client.status(stream) == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
