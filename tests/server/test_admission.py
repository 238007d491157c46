"""Who comes in: full queues, those who fill them, deadlines that cannot be met."""

from __future__ import annotations

import contextlib
import threading
import time

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from support.serving import generate, generate_request, read_rest, running_server

from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok_server import current_call
from nextok_server.errors import DeadlineTooShort, QueueFull, QueueTooLong
from nextok_server.forecast import Forecast
from nextok_server.model import Model
from nextok_server.room import Room
from nextok_server.tally import Tally


@pytest.fixture
def held(monkeypatch):
    """Holds every step back until it is set."""
    released = threading.Event()
    real = Model.forward

    def forward(self, *args, **kwargs):
        assert released.wait(30)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", forward)
    yield released
    released.set()


def retry_delay(error):
    status = status_pb2.Status()
    status.ParseFromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    return info.retry_delay.ToTimedelta().total_seconds()


async def test_who_fills_the_queue_makes_room_for_another(artifacts, held):
    async with running_server(artifacts["fp32"], slots=1, max_queue=2) as running:
        greedy = []
        for _ in range(3):
            greedy.append(running.stub.Generate(generate_request("hello")))
            await greedy[-1].read()
        own = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(running.target, options=own) as channel:
            stub = pb_grpc.TextGenerationServiceStub(channel)
            modest = stub.Generate(generate_request("you", max_tokens=2, ignore_eos=True))
            assert (await modest.read()).prompt.tokens
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_rest(greedy[2])
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert retry_delay(raised.value) > 0
            # The caller that has as little as anyone is refused like anyone.
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.Generate(generate_request("you too")).read()
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            held.set()
            assert len(await read_rest(modest)) == 2
        for call in greedy[:2]:
            call.cancel()


async def test_what_takes_longer_than_its_deadline_is_refused_before_it_passes(
    artifacts, monkeypatch
):
    async with running_server(artifacts["fp32"]) as running:
        monkeypatch.setattr(Forecast, "run", lambda _self, tokens, **_: tokens * 1.0)
        request = {"max_tokens": 60, "ignore_eos": True}
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_rest(running.stub.Generate(generate_request("a", **request), timeout=50))
        assert time.monotonic() - began < 40
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "the tokens asked for take about 60 s" in raised.value.details()
        # What may end sooner is not.
        call = running.stub.Generate(generate_request("a", max_tokens=60, stop=["e"]), timeout=50)
        assert await read_rest(call)


async def test_what_would_wait_past_its_deadline_is_refused_with_a_time_to_come_back(
    artifacts, held, monkeypatch
):
    async with running_server(artifacts["fp32"], slots=1, max_queue=2) as running:
        monkeypatch.setattr(Forecast, "wait", lambda _self, ahead: 100.0 * (ahead + 1))
        runs = running.stub.Generate(generate_request("hello"))
        await runs.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await running.stub.Generate(generate_request("you"), timeout=60).read()
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_delay(raised.value) == pytest.approx(40, abs=1)  # deadlines are rounded
        waits = running.stub.Generate(generate_request("you", max_tokens=1), timeout=600)
        assert await waits.read()
        runs.cancel()
        held.set()
        assert len(await read_rest(waits)) == 1


async def test_requests_are_served_before_anything_was_measured(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        assert len((await generate(running, "a", max_tokens=3, ignore_eos=True)).steps) == 3


@pytest.fixture
def forecast():
    """Requests take 8 s, steps 0.1 s at best and 0.4 s when all run."""
    tally = Tally()
    for seconds in (0.1, *[0.4] * 500):
        tally.note_step([], 4, 4, 0.0, seconds)
    forecast = Forecast(4, tally)
    for _ in range(100):
        forecast.note(8.0)
    return forecast


def test_a_forecast_is_that_of_what_was_measured(forecast):
    assert forecast.wait(0) == pytest.approx(2.0)
    assert forecast.wait(3) == pytest.approx(8.0)
    assert forecast.run(10, crowded=False) == pytest.approx(1.0)
    assert forecast.run(10, crowded=True) == pytest.approx(4.0)
    delays = [forecast.delay(20) for _ in range(50)]
    assert 0.75 * 22 <= min(delays) < max(delays) <= 1.25 * 22
    assert len(set(delays)) > 40
    assert forecast.delay(10_000) == 30
    assert Forecast(4, Tally()).delay(100) == 0.1


def test_a_deadline_counts_the_turns_of_others_no_more_than_the_callers_own(forecast):
    room = Room(1, 100, forecast)
    for party in ("", *["greedy"] * 20):
        come(room, party)
    with call_of("modest", deadline=3.0):
        room.check(0)
    with call_of("greedy", deadline=3.0), pytest.raises(QueueTooLong):
        room.check(0)
    with call_of("greedy", deadline=3.0), pytest.raises(DeadlineTooShort):
        room.check(1000)
    with call_of("greedy"):
        room.check(1000)


def test_a_full_queue_is_full_for_all_who_have_as_much(forecast):
    room = Room(1, 4, forecast)
    for party in ("a", "a", "a", "b", "b"):
        come(room, party)
    with call_of("b"), pytest.raises(QueueFull, match="4 requests are waiting"):
        room.check(0)
    with call_of("c"):
        assert room.check(0).party == "a"


@contextlib.contextmanager
def call_of(party, deadline=None):
    at = None if deadline is None else time.monotonic() + deadline
    tokens = current_call.party.set(party), current_call.deadline.set(at)
    yield
    current_call.party.reset(tokens[0])
    current_call.deadline.reset(tokens[1])


def come(room, party):
    with call_of(party):
        assert room.check(0) is None
        admission = room.enter()
    admission.streams.add(Waiting())


class Waiting:
    """Stands in for a stream of which nothing is computed yet."""

    class sequence:
        started_at = 0.0
