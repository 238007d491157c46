"""Reliability 10: the wall clock jumps, an hour forward and backward, under a running server."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import grpc
import h2.events
import pytest
from google.rpc import error_details_pb2, status_pb2
from h2.settings import SettingCodes
from support.faulty_server import SLOW_STEP_SECONDS
from support.h2_client import H2Client, message
from support.interacting import Session, action, start_request
from support.serving import generate_request
from support.shifted_clock import ShiftedClock
from support.traffic import Chaos, Received, read, step_bits
from support.watched_health import SERVING, WatchedHealth

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok_server.tokens_file import SCOPES, make_token

HOUR = 3600
# Seconds that the clock is ahead of the real one: a jump forward, back, backward, and back.
SHIFTS = (HOUR, 0, -HOUR, 0)
SEED = 10
# Seconds: a deadline that passes, by when it has to have passed, and one that must not.
SHORT, LATE, LONG = 0.5, 20.0, 60.0
# Of one caller, who may ask for more once, and then has to wait longer than a test takes.
TOKENS_PER_MINUTE = 10
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def clock(tmp_path):
    return ShiftedClock(tmp_path)


@pytest.fixture
def tokens(tmp_path):
    """The file of tokens, one that does not expire, and one that expires in half an hour."""
    ever, one = make_token("ever", SCOPES, None)
    soon, other = make_token("soon", SCOPES, datetime.now(UTC) + timedelta(seconds=HOUR / 2))
    path = tmp_path / "tokens.toml"
    path.write_text(one.toml() + other.toml())
    return path, _bearer(ever), _bearer(soon)


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def whole(call: Any, received: Received) -> Received:
    """The rest of a stream, and how it ended."""
    try:
        await read(call, received)
    except grpc.aio.AioRpcError as error:
        received.code = error.code()
    return received


def ask(stub: Any) -> Any:
    """A stream that is not over while it is not read: there is no room for that much."""
    fields = {"max_tokens": 120, "ignore_eos": True, "full_vocabulary": True}
    return stub.Generate(generate_request([3, 4], seed=1, **fields), timeout=LONG)


async def begin(stub: Any) -> Session:
    """An interactive call that may ask for something, and does not yet."""
    session = Session(stub.Interact())
    await session.send(start_request([3, 4], seed=1, temperature=1.0))
    await session.read()
    return session


async def steps(session: Session) -> list[tuple[Any, ...]]:
    """What an interactive call is answered at last; nothing where it was ended."""
    found = []
    try:
        await session.send(action("sample", count=3))
        for _ in range(3):
            found += map(step_bits, (await session.read()).steps)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the latter where it had ended
        return []
    finally:
        session.call.cancel()
    return found


class Late:
    """A call whose deadline only the server keeps; an async context manager, its connection.

    Args:
        address: HOST:PORT of the server.
    """

    def __init__(self, address: str) -> None:
        self._client = H2Client(address)

    async def start(self, stub: Any) -> None:
        """Asks for something that cannot end, since there is no room for its first message."""
        self._client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        self._began = time.monotonic()
        asked = generate_request([3, 4], max_tokens=120).SerializeToString()
        timeout = ("grpc-timeout", f"{SHORT * 1000:.0f}m")
        self._stream = self._client.call("Generate", message(asked), timeout)
        await self._client.flush()
        # A call behind it: once that is answered, the server knows.
        await stub.GetModel(pb.GetModelRequest())

    async def wrong(self) -> list[str]:
        """What is wrong about its end."""
        over = (h2.events.StreamReset, h2.events.StreamEnded)
        try:
            async with asyncio.timeout(LATE):
                await self._client.wait_for(over, self._stream)
        except TimeoutError:
            return ["a deadline has passed, and the call goes on"]
        early = time.monotonic() - self._began < SHORT
        return ["a call ended before its deadline"] if early else []

    async def __aenter__(self) -> Late:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)


class Jumps:
    """A server under a clock that jumps.

    Args:
        address: HOST:PORT of the server.
        clock: Of its process.

    Attributes:
        wrong: What was wrong.
        streams: How many there were.
    """

    def __init__(self, address: str, clock: ShiftedClock) -> None:
        self.wrong: list[str] = []
        self.streams = 0
        self._address = address
        self._clock = clock

    async def make(self) -> Jumps:
        """Makes all of them, until something is wrong, while other streams come and go."""
        over = False
        chaos = Chaos(self._address, seed=SEED, count=16, at_once=4)
        await chaos.ask_alone()
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub: Any = pb_grpc.TextGenerationServiceStub(channel)
            self._alone = await whole(ask(stub), Received())
            self._steps = await steps(await begin(stub))
            assert self._alone.digest
            assert self._steps
            mix = [(0.7, "read"), (0.3, "stall")]
            others = asyncio.create_task(chaos.run(mix, lambda: not over))
            async with WatchedHealth(channel) as health:
                for shift in SHIFTS:
                    if not self.wrong:
                        await self._jump(stub, shift)
            over = True
            tally = await others
        await chaos.close()
        self.wrong += tally.wrong + tally.unexpected + ["a stream hangs"] * tally.hung
        if health.told != [SERVING]:
            self.wrong.append(f"health told {health.told}")
        self.streams += tally.total
        return self

    async def _jump(self, stub: Any, shift: int) -> None:
        call, received = ask(stub), Received()
        await read(call, received, 2)
        idle = await begin(stub)
        async with Late(self._address) as before, Late(self._address) as after:
            await before.start(stub)
            self._clock.shift(shift)
            await after.start(stub)
            if await whole(call, received) != self._alone:
                self.wrong.append(f"a stream that ran is another one: {received.code}")
            if (begun := await whole(ask(stub), Received())) != self._alone:
                self.wrong.append(f"a stream that begins is another one: {begun.code}")
            if await steps(idle) != self._steps:
                self.wrong.append("an interactive call ended, or is another one")
            self.wrong += await before.wrong() + await after.wrong()
        self.streams += 5


async def test_nothing_misbehaves_when_the_wall_clock_jumps(start, small, clock, figures):
    # Branches are parked, and go on, as the clock jumps.
    flags = ("--branch-idle-seconds", "0.2")
    _, address = start(*flags, artifact=small["fp32"], environment=clock.environment)
    jumps = await Jumps(address, clock).make()
    figures.add(
        10,
        f"sick machine: {len(jumps.wrong)} things wrong with {jumps.streams} streams while the "
        f"clock jumped {len(SHIFTS)} times by an hour (bound: 0)",
        streams=jumps.streams,
        wrong=len(jumps.wrong),
    )
    assert jumps.wrong == []


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("wall_clock_deadlines", "a stream that ran is another one: StatusCode.DEADLINE_EXCEEDED"),
        ("wall_clock", "an interactive call ended, or is another one"),
    ],
)
async def test_the_check_finds_what_is_timed_by_the_wall_clock(start, small, clock, fault, found):
    _, address = start(artifact=small["fp32"], fault=fault, environment=clock.environment)
    assert found in (await Jumps(address, clock).make()).wrong


async def health_over_jumps(address: str, clock: ShiftedClock) -> list[int]:
    """What health says when the clock jumps in the midst of steps."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        call = stub.Generate(generate_request([3, 4], max_tokens=120, ignore_eos=True))
        await read(call, Received(), 2)
        async with WatchedHealth(channel) as health:
            # Again and again, and not in time with the steps: a jump as one ends shows nothing.
            for shift in SHIFTS * 6:
                clock.shift(shift)
                await asyncio.sleep(0.35 * SLOW_STEP_SECONDS)
        call.cancel()
    return health.told


@pytest.mark.parametrize("fault", ["slow_steps", "slow_steps+hasty_watchdog"])
async def test_a_watchdog_counts_no_time_that_only_the_wall_clock_had(start, small, clock, fault):
    _, address = start(artifact=small["fp32"], fault=fault, environment=clock.environment)
    told = await health_over_jumps(address, clock)
    assert (told == [SERVING]) == ("hasty" not in fault)


async def waits(stub: Any, who: Metadata) -> float:
    """Asks for tokens; returns the seconds after which to ask again, 0 if it was answered."""
    request = generate_request([3], max_tokens=100, ignore_eos=True)
    try:
        async for _ in stub.Generate(request, metadata=who):
            pass
    except grpc.aio.AioRpcError as error:
        status, info = status_pb2.Status(), error_details_pb2.RetryInfo()
        status.ParseFromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        assert status.details[0].Unpack(info)
        return info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return 0.0


async def is_good(stub: Any, token: Metadata) -> bool:
    try:
        await stub.GetModel(pb.GetModelRequest(), metadata=token)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


async def wrong_with_quotas(stub: Any, who: Metadata, clock: ShiftedClock) -> list[str]:
    """What is wrong with a caller that has used up its tokens when the clock jumps."""
    assert await waits(stub, who) == 0
    before = await waits(stub, who)
    assert before > 0
    wrong = []
    for shift in SHIFTS:
        clock.shift(shift)
        after = await waits(stub, who)
        if not 0 < after <= before:
            wrong.append(f"at {shift} s it has to wait {after} s, and {before} s before")
    return wrong


async def wrong_with_expiry(stub: Any, token: Metadata, clock: ShiftedClock) -> list[str]:
    """What is wrong with a token that expires in half an hour when the clock jumps."""
    wrong = []
    for shift in SHIFTS:
        clock.shift(shift)
        if await is_good(stub, token) == (shift == HOUR):
            wrong.append(f"its expiry is not that of a clock shifted by {shift} s")
    return wrong


@pytest.fixture
def serve_callers(start, small, clock, tokens):
    """Starts a server that knows its callers, and counts what they take."""

    def run(fault: str | None = None) -> str:
        flags = ("--tokens-file", str(tokens[0]), "--max-tokens-per-minute")
        _, address = start(
            *(*flags, str(TOKENS_PER_MINUTE)),
            artifact=small["fp32"],
            fault=fault,
            environment=clock.environment,
        )
        return address

    return run


@pytest.mark.parametrize("fault", [None, "wall_clock_quotas"])
async def test_a_jump_neither_locks_a_caller_out_nor_gives_it_tokens(
    serve_callers, tokens, clock, fault
):
    async with grpc.aio.insecure_channel(serve_callers(fault)) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        wrong = await wrong_with_quotas(stub, tokens[1], clock)
    assert bool(wrong) == bool(fault), wrong


@pytest.mark.parametrize("fault", [None, "steady_expiry"])
async def test_a_token_expires_by_the_wall_clock(serve_callers, tokens, clock, fault):
    async with grpc.aio.insecure_channel(serve_callers(fault)) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        wrong = await wrong_with_expiry(stub, tokens[2], clock)
    assert bool(wrong) == bool(fault), wrong
