"""Streams that lose their server and are gone on with by another one of the same artifact."""

from __future__ import annotations

import asyncio
import random
import signal
import struct
from contextlib import AsyncExitStack

import pytest
from support.cut import cutting

from nextok import ArtifactChanged, AsyncClient, Client

# The servers of a target in their order: the next one is for when those before it are gone.
# On a busy machine the first one may take a while to answer, and is not to be overtaken; gRPC
# waits no longer than this.
IN_ORDER = [
    ("grpc.lb_policy_name", "pick_first"),
    ("grpc.happy_eyeballs_connection_attempt_delay_ms", 2000),
]
STREAMS = 100
AT_ONCE = 8
PROMPTS = [
    "I love Generative AI",
    "Once upon a time, in a house by the sea, there lived \N{GRINNING FACE}",
    "\u65e5\u672c",
    "x " * 40,
]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("nextok.attempts.FIRST_PAUSE_SECONDS", 0.001)


def options(number):
    """What stream `number` asks for: every second one is greedy, all differ."""
    return {
        "temperature": (number % 2) * (0.5 + number / STREAMS),
        "seed": number,
        "top_p": 1.0 if number % 3 else 0.9,
        "frequency_penalty": number % 5 / 4,
        "stop": ["never said", "\ufffd" * 6],
        "ignore_eos": True,
        "max_tokens": 24,
        "top_logprobs": number % 4,
        "prompt_logprobs": number % 7 == 0,
    }


def bits(value):
    return None if value is None else struct.pack("<f", value)


def transcript(generation):
    """Everything that has to be the same, to the bit."""
    return (
        [(s.index, s.id, bits(s.logprob), bits(s.entropy), s.delta) for s in generation.steps],
        [(s.position, s.id, bits(s.logprob)) for s in generation.prompt_logprobs],
        generation.text,
        generation.finish,
    )


def read_sync(target, number):
    with Client(target, options=IN_ORDER) as client:
        running = client.generate(PROMPTS[number % len(PROMPTS)], **options(number))
        for _ in running:
            pass
    return running


async def read(target, number):
    """Reads stream `number` to its end; every third with the sync client."""
    if number % 3 == 0:
        return await asyncio.to_thread(read_sync, target, number)
    async with AsyncClient(target, options=IN_ORDER) as client:
        running = client.generate(PROMPTS[number % len(PROMPTS)], **options(number))
        async for _ in running:
            pass
    return running


async def read_with_cuts(number, one, other):
    """Reads stream `number` whole, and again over one or two cuts; returns both."""
    dice = random.Random(number)
    async with cutting(one, after=None) as uncut:
        whole = await read(f"ipv4:127.0.0.1:{uncut.port}", number)
    for _ in range(5):
        resumed, was_cut = await read_over(number, one, other, uncut.sent, dice)
        if was_cut:
            return whole, resumed
    raise AssertionError("the first address was overtaken each time")


async def read_over(number, one, other, length, dice):
    """Reads stream `number`, `length` bytes, over cuts; whether the first address was used."""
    async with AsyncExitStack() as stack:
        cuts = [
            await stack.enter_async_context(
                cutting(one, after=int(dice.uniform(0.1, 0.8) * length), reset=dice.random() < 0.5)
            )
            for _ in range(1 + number % 2)
        ]
        ports = [f"127.0.0.1:{cut.port}" for cut in cuts]
        resumed = await read(f"ipv4:{','.join(ports)},{other}", number)
    return resumed, cuts[0].done


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_streams_cut_anywhere_and_resumed_elsewhere_are_the_same_to_the_bit(
    start, small, precision
):
    addresses = [start(artifact=small[precision])[1] for _ in range(2)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def run(number):
        async with gate:
            return await read_with_cuts(number, *addresses)

    pairs = await asyncio.gather(*(run(number) for number in range(STREAMS)))
    different = [n for n, (a, b) in enumerate(pairs) if transcript(a) != transcript(b)]
    assert different == []
    assert all(whole.resumed == 0 and resumed.resumed >= 1 for whole, resumed in pairs)
    assert len({whole.finish.digest for whole, _ in pairs}) == STREAMS


async def test_a_server_of_another_artifact_does_not_go_on(start, small):
    _, exact = start(artifact=small["fp32"])
    _, rounded = start(artifact=small["int8"])
    async with cutting(exact, after=1500) as cut:
        with pytest.raises(ArtifactChanged, match="another artifact"):
            await read(f"ipv4:127.0.0.1:{cut.port},{rounded}", 1)
        assert cut.done


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_ended_in_midstream_is_replaced_by_the_next(start, number):
    first, address = start("--drain-seconds", "0")
    _, other = start()
    # Steps of 0.2 MB: no connection holds so many that the stream could end before its server.
    asked = {"seed": 1, "max_tokens": 40, "ignore_eos": True, "full_vocabulary": True}
    with Client(f"ipv4:{address},{other}", options=IN_ORDER) as client:
        running = client.generate(PROMPTS[0], **asked)
        for step in running:
            if step.index == 3:
                first.send_signal(number)
                first.wait(30)
    with Client(other) as client:
        whole = client.generate(PROMPTS[0], **asked)
        assert [s.full_logprobs for s in whole] == [s.full_logprobs for s in running.steps]
    assert transcript(running) == transcript(whole)
    assert running.resumed >= 1


def test_a_stream_of_a_server_that_drafts_is_gone_on_with_by_one_that_does_not_by_itself(start):
    first, address = start("--drain-seconds", "0", "--drafts")
    _, other = start()
    asked = {"seed": 1, "temperature": 0.0, "max_tokens": 60, "ignore_eos": True}
    # Steps of 0.2 MB, as above.
    asked["full_vocabulary"] = True
    with Client(f"ipv4:{address},{other}", options=IN_ORDER) as client:
        running = client.generate("x y z " * 10, **asked)
        for step in running:
            if step.index == 20:
                first.send_signal(signal.SIGKILL)
                first.wait(30)
    with Client(other) as client:
        whole = client.generate("x y z " * 10, drafts=True, **asked)
        assert [s.full_logprobs for s in whole] == [s.full_logprobs for s in running.steps]
    assert transcript(running) == transcript(whole)
    assert running.resumed >= 1
    assert running.summary.usage == whole.summary.usage
    assert whole.summary.usage.accepted_draft_tokens > 20
