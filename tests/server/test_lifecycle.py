"""Cancelling, deadlines, full queues, slow readers, draining, faults."""

import asyncio
import threading

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from support.h2_client import H2Client, message
from support.serving import generate, generate_request, read_rest, running_server

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.methods import SERVICE
from nextok_server.model import Model
from nextok_server.outgoing import Outgoing

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def gate(monkeypatch):
    """Holds decode steps back until it is opened, so that nothing has to be timed."""
    opened = threading.Event()
    opened.set()
    busy_slots = []
    real = Model.forward

    def forward(self, chunks, *args, **kwargs):
        if decoded := [chunk.slot for chunk in chunks if len(chunk.tokens) == 1]:
            assert opened.wait(30)
            busy_slots.append(decoded)
        return real(self, chunks, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", forward)
    opened.busy_slots = busy_slots
    yield opened
    opened.set()


async def first_step(running, prompt="hello there", **fields):
    """Starts a long stream and waits for its first step."""
    call = running.stub.Generate(generate_request(prompt, ignore_eos=True, **fields))
    while not (message := await call.read()).steps:
        assert message is not grpc.aio.EOF
    return call


async def test_a_cancelled_stream_frees_its_slot_for_the_next_one(artifacts, gate):
    async with running_server(artifacts["fp32"], slots=1, max_queue=1) as running:
        for _ in range(20):
            call = await first_step(running)
            call.cancel()
        reply = await generate(running, "hello", max_tokens=3, ignore_eos=True)
        assert len(reply.steps) == 3


async def test_a_cancelled_streams_slot_is_not_computed_any_more(artifacts, gate):
    async with running_server(artifacts["fp32"], slots=2) as running:
        stays = await first_step(running, max_tokens=60)
        leaves = await first_step(running, max_tokens=60)
        gate.clear()
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves.read()
        # A unary call behind the cancellation: once it is answered, the server knows of it.
        await running.stub.GetModel(pb.GetModelRequest())
        before = len(gate.busy_slots)
        gate.set()
        await read_rest(stays)
        # The step that stood at the gate was planned before; all later ones know.
        assert all(slots == [0] for slots in gate.busy_slots[before + 1 :])


async def test_a_client_that_leaves_with_a_message_unread_is_no_fault(artifacts, monkeypatch):
    writing = asyncio.Event()
    real = Outgoing.write

    async def write(self, message):
        writing.set()
        await real(self, message)

    monkeypatch.setattr(Outgoing, "write", write)
    asked = generate_request("hello", max_tokens=3).SerializeToString()
    with structlog.testing.capture_logs() as logged:
        async with running_server(artifacts["fp32"]) as running:
            for _ in range(20):
                writing.clear()
                async with H2Client(running.target) as client:
                    # No room for the first message already.
                    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
                    stream = client.call("Generate", message(asked))
                    await client.flush()
                    await writing.wait()
                    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
                    await client.flush()
                    # A call behind it: once that is answered, the server knows.
                    await running.stub.GetModel(pb.GetModelRequest())
    assert [line for line in logged if line["log_level"] == "error"] == []


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(artifacts, gate):
    async with running_server(artifacts["fp32"], slots=1, max_queue=1) as running:
        runs = await first_step(running)
        gate.clear()
        waits = running.stub.Generate(generate_request("hello"))
        await waits.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await generate(running, "hello")
        gate.set()
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = status_pb2.Status()
        status.ParseFromString(dict(raised.value.trailing_metadata())["grpc-status-details-bin"])
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToTimedelta().total_seconds() > 0
        runs.cancel()
        waits.cancel()


@pytest.mark.parametrize("place", ["decoding", "queue"])
async def test_a_deadline_is_told_as_such_and_frees_the_slot(artifacts, gate, place):
    async with running_server(artifacts["fp32"], slots=1) as running:
        blocker = await first_step(running) if place == "queue" else None
        gate.clear()
        call = running.stub.Generate(generate_request("hello", ignore_eos=True), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_rest(call)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.set()
        if blocker is not None:
            blocker.cancel()
        assert len((await generate(running, "hello", max_tokens=2, ignore_eos=True)).steps) == 2


async def test_higher_priority_goes_first(artifacts, gate):
    async with running_server(artifacts["fp32"], slots=1) as running:
        blocker = await first_step(running)
        gate.clear()
        order, tasks = [], []

        async def finish(name, call):
            await read_rest(call)
            order.append(name)

        for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
            request = generate_request("hello", max_tokens=2, priority=priority, ignore_eos=True)
            call = running.stub.Generate(request)
            await call.read()  # the prompt's tokens: it is in the queue
            tasks.append(asyncio.create_task(finish(name, call)))
        blocker.cancel()
        gate.set()
        await asyncio.gather(*tasks)
        assert order == ["high", "first", "second", "low"]


async def test_a_slow_reader_pauses_itself_and_gets_every_step_in_the_end(artifacts, gate):
    async with running_server(artifacts["fp32"], stream_window=4) as running:
        slow = running.stub.Generate(
            generate_request("hello", max_tokens=100, full_vocabulary=True, ignore_eos=True)
        )
        await slow.read()
        # While it reads nothing, a neighbour runs from start to end.
        for _ in range(3):
            assert len((await generate(running, "you", max_tokens=40, ignore_eos=True)).steps) == 40
        assert [step.index for step in await read_rest(slow)] == list(range(100))


async def test_readers_that_never_read_are_let_go_after_the_time_limit(artifacts):
    async with running_server(artifacts["fp32"], slots=2, write_timeout=1.0) as running:
        request = generate_request("hello", full_vocabulary=True, ignore_eos=True)
        stuck = [running.stub.Generate(request) for _ in range(2)]
        for call in stuck:
            await call.read()
        # The slots are free again once the readers were given up.
        both = (generate(running, "you", max_tokens=3, ignore_eos=True) for _ in range(2))
        assert [len(found.steps) for found in await asyncio.gather(*both)] == [3, 3]
        for call in stuck:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_rest(call)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert raised.value.details() == "a message was not read within 1 s"


async def test_health_is_serving_when_ready_and_not_serving_while_draining(artifacts, gate):
    async with running_server(artifacts["fp32"]) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        for service in ("", SERVICE):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == SERVING
        call = await first_step(running, max_tokens=20)
        gate.clear()
        stopping = asyncio.create_task(running.app.stop(30.0))
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        while (await watch.read()).status != NOT_SERVING:
            pass
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await generate(running, "too late")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        gate.set()
        assert (await read_rest(call))[-1].index == 19
        watch.cancel()
        await stopping


async def test_an_engine_fault_reaches_every_waiter_and_health(
    artifacts, gate, monkeypatch, capsys
):
    async with running_server(artifacts["fp32"], slots=1) as running:
        runs = await first_step(running)
        gate.clear()
        waits = running.stub.Generate(generate_request("hello"))
        await waits.read()

        def broken(self, *args, **kwargs):
            raise RuntimeError("secret detail")

        monkeypatch.setattr(Model, "forward", broken)
        gate.set()
        for call in (runs, waits):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_rest(call)
            assert raised.value.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in raised.value.details()
        health = health_pb2_grpc.HealthStub(running.channel)
        reply = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert reply.status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await generate(running, "hello")
        assert raised.value.code() is grpc.StatusCode.INTERNAL


async def test_a_request_id_comes_back_and_a_strange_one_is_replaced(fp32_server):
    for given in ("abc-123", "bad id\t"):
        call = fp32_server.stub.Generate(
            generate_request("hello", max_tokens=1), metadata=(("x-request-id", given.strip()),)
        )
        await read_rest(call)
        returned = dict(await call.trailing_metadata())["x-request-id"]
        assert (returned == given) == (given == "abc-123")


async def test_between_not_serving_and_refusing_there_is_time_to_hear_of_it(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        stopping = asyncio.create_task(running.app.stop(5.0, delay=1.0))
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        while (await watch.read()).status != NOT_SERVING:
            pass
        assert len((await generate(running, "in time", max_tokens=2, ignore_eos=True)).steps) == 2
        assert await watch.read() is grpc.aio.EOF
        await stopping
