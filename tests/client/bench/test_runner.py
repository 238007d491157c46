"""The load as it is put on, against a server of made-up speed on a clock of made-up time."""

import asyncio
from itertools import count

import grpc
import pytest
from grpc.aio import EOF, AioRpcError, Metadata
from support import virtual_time
from support.fake_service import first, last, step
from support.loads import settings

from nextok.bench.lengths import Lengths
from nextok.bench.plan import Phase, plan
from nextok.bench.results import summarize
from nextok.bench.runner import Recording, drive, request_message
from nextok.v1 import text_generation_pb2 as pb

FIRST, GAP = 0.25, 0.125  # seconds; sums of them are exact


class Server:
    """Answers `slots` requests at a time, the others in turn; stands still in a stall."""

    def __init__(self, *, slots=1000, stall=(0.0, 0.0), refuse=()):
        self._slots = asyncio.Semaphore(slots)
        self._stall = stall
        self._refuse = refuse
        self._numbers = count()
        self.requests = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0

    def generate(self, request):
        self.requests.append(request)
        return Call(self, request, refused=next(self._numbers) in self._refuse)

    async def wait(self, seconds):
        await asyncio.sleep(seconds)
        begin, end = self._stall
        if begin <= (now := asyncio.get_running_loop().time()) < end:
            await asyncio.sleep(end - now)

    async def messages(self, request):
        async with self._slots:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            try:
                await self.wait(FIRST)
                yield first()
                for index in range(request.stop_conditions.max_tokens):
                    if index:
                        await self.wait(GAP)
                    yield pb.GenerateResponse(steps=[step(index, "x")])
                yield last(request.stop_conditions.max_tokens)
            finally:
                self.running -= 1


class Call:
    def __init__(self, server, request, *, refused):
        self._server = server
        self._messages = server.messages(request)
        self._refused = refused
        self._ended = False

    async def read(self):
        if self._refused:
            self._ended = True
            raise AioRpcError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata(), "the queue is full"
            )
        try:
            return await anext(self._messages)
        except StopAsyncIteration:
            self._ended = True
            return EOF

    def cancel(self):
        self._server.cancelled += not self._ended
        return True


def driven(make_server, chosen):
    """Puts the load on; returns the server and what was recorded."""

    async def work():
        server, recording = make_server(), Recording(chosen.requests)
        requests = plan(chosen, run=1, vocabulary=range(100))
        await drive(server.generate, chosen, requests, recording)
        return server, recording

    return virtual_time.run(work())


def measured(recording):
    return [e for e in recording.exchanges if e.phase is Phase.MEASURED]


# A closed loop.


@pytest.mark.parametrize("streams", [1, 4])
def test_a_closed_loop_keeps_its_streams_busy_and_counts_what_they_get(streams):
    chosen = settings(streams=streams, warmup=streams, requests=3 * streams)
    server, recording = driven(Server, chosen)
    assert server.most_running == streams
    assert len(measured(recording)) == 3 * streams
    results = summarize(recording.exchanges, end=recording.ended_at)
    each = FIRST + 3 * GAP
    assert results.duration == pytest.approx(3 * each)
    assert results.output_throughput == pytest.approx(streams * 4 / each)
    assert results.request_throughput == pytest.approx(streams / each)
    assert results.ttft_ms.p50 == results.ttft_ms.max == 1000 * FIRST
    assert results.itl_ms.p50 == results.itl_ms.max == 1000 * GAP
    assert results.e2el_ms.p99 == pytest.approx(1000 * each)


def test_streams_stay_busy_until_the_last_measured_request_has_ended():
    chosen = settings(streams=4, requests=8, output_tokens=Lengths(1, 40))
    server, recording = driven(Server, chosen)
    fillers = [e for e in recording.exchanges if e.phase is Phase.FILLER]
    assert fillers
    last_end = max(e.ended for e in measured(recording))
    assert recording.ended_at == last_end
    for moment in (e.due for e in measured(recording)):
        running = [e for e in recording.exchanges if e.sent <= moment < (e.ended or last_end + 1)]
        assert len(running) == 4
    # What still ran was given up, and nothing is left behind.
    assert server.cancelled == sum(e.ended is None for e in recording.exchanges) > 0
    assert server.running == 0


def test_a_refused_request_is_counted_and_its_stream_goes_on_after_a_pause():
    chosen = settings(requests=5, warmup=0)
    server, recording = driven(lambda: Server(refuse={1, 2}), chosen)
    results = summarize(recording.exchanges, end=recording.ended_at)
    assert (results.completed, results.failed) == (3, 2)
    assert results.errors["RESOURCE_EXHAUSTED"].first == "the queue is full"
    refused = measured(recording)[1]
    assert measured(recording)[2].due == pytest.approx(refused.ended + 0.1)
    assert len(server.requests) == 6  # the last is a filler that had no time


# An open loop.


def test_an_open_loop_sends_every_request_at_its_time_however_slow_the_server_is():
    chosen = settings(streams=None, request_rate=10.0, requests=50, warmup=5)
    _, recording = driven(lambda: Server(slots=1), chosen)
    planned = plan(chosen, run=1, vocabulary=range(100))
    for one, request in zip(recording.exchanges, planned, strict=False):
        assert one.due == request.arrival
        assert one.sent == pytest.approx(request.arrival)
    # One request takes 0.625 s and ten come a second: the queue only grows.
    waits = [e.arrivals[0] - e.due for e in measured(recording)]
    assert waits[-1] > 20


def test_a_stalled_server_shows_in_the_open_loops_percentiles():
    stall = (5.0, 15.0)
    one_token = Lengths(1, 1)
    open_loop = settings(
        streams=None, request_rate=2.0, requests=40, warmup=0, output_tokens=one_token
    )
    _, recording = driven(lambda: Server(stall=stall), open_loop)
    results = summarize(recording.exchanges, end=recording.ended_at)
    due_in_it = [e for e in measured(recording) if stall[0] <= e.due + FIRST < stall[1]]
    assert len(due_in_it) > 10
    for one in due_in_it:
        assert one.arrivals[0] - one.due == pytest.approx(stall[1] - one.due)
    assert results.ttft_ms.p90 > 5_000
    assert results.ttft_ms.p99 > 8_000


def test_a_closed_loop_hides_the_same_stall_which_is_why_there_is_an_open_one():
    chosen = settings(requests=100, warmup=0, output_tokens=Lengths(1, 1))
    _, recording = driven(lambda: Server(stall=(5.0, 15.0)), chosen)
    results = summarize(recording.exchanges, end=recording.ended_at)
    assert results.ttft_ms.p90 == 1000 * FIRST
    assert results.ttft_ms.max > 9_000


def test_load_goes_on_behind_the_measured_requests_of_an_open_loop():
    chosen = settings(streams=None, request_rate=4.0, requests=10, output_tokens=Lengths(60, 60))
    server, recording = driven(Server, chosen)
    fillers = [e for e in recording.exchanges if e.phase is Phase.FILLER]
    assert len(fillers) > 10
    assert all(e.due <= recording.ended_at for e in fillers)
    assert server.running == 0


# How it ends.


def test_what_was_recorded_stays_when_it_is_interrupted():
    chosen = settings(streams=2, requests=100, warmup=0)
    recorded = []

    async def work():
        server, recording = Server(), Recording(chosen.requests)
        recorded.append(recording)
        requests = plan(chosen, run=1, vocabulary=range(100))
        load = asyncio.create_task(drive(server.generate, chosen, requests, recording))
        await asyncio.sleep(10 * (FIRST + 3 * GAP) + FIRST + 0.0625)
        load.cancel()
        await asyncio.wait([load])
        assert load.cancelled()
        return server

    server = virtual_time.run(work())
    (recording,) = recorded
    assert server.running == 0
    assert recording.ended_at == pytest.approx(10 * 0.625 + 0.3125)
    results = summarize(recording.exchanges, end=recording.ended_at)
    assert (results.completed, results.unfinished, results.failed) == (20, 2, 0)
    assert results.completion_tokens == 20 * 4 + 2


def test_a_fault_of_our_own_ends_the_load():
    def broken(request):
        raise ZeroDivisionError

    async def work():
        chosen = settings()
        requests = plan(chosen, run=1, vocabulary=range(100))
        await drive(broken, chosen, requests, Recording(1))

    with pytest.raises(ExceptionGroup) as errors:
        virtual_time.run(work())
    assert errors.group_contains(ZeroDivisionError)


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([first(), pb.GenerateResponse(steps=[step(0, "x")])], "ended without a summary"),
        ([first(), pb.GenerateResponse(steps=[step(0, "x")]), last(2)], "1 tokens came, the"),
        ([], "ended without a summary"),
    ],
)
def test_a_stream_that_is_not_whole_has_failed(messages, complaint):
    class Broken(Server):
        async def messages(self, _request):
            await self.wait(FIRST)
            for message in messages:
                yield message

    _, recording = driven(Broken, settings(requests=1, warmup=0))
    (failed,) = measured(recording)
    assert failed.status == "INTERNAL"
    assert complaint in failed.details


# What is asked.


def test_a_request_asks_for_what_the_settings_say():
    chosen = settings(
        temperature=0.5, top_k=3, top_p=0.75, top_logprobs=7, seed=9, bypass_prefix_reuse=True
    )
    request = next(plan(chosen, run=1, vocabulary=range(100)))
    message = request_message(request, chosen)
    assert tuple(message.prompt.token_ids.ids) == request.prompt
    assert (message.sampling.temperature, message.sampling.top_k) == (0.5, 3)
    assert (message.sampling.top_p, message.sampling.seed) == (0.75, 9)
    assert message.stop_conditions.max_tokens == 4
    assert message.stop_conditions.ignore_eos
    assert message.logprobs.top_logprobs == 7
    assert message.bypass_prefix_reuse


@pytest.mark.parametrize("drafts", [None, False, True])
def test_drafts_are_on_off_or_not_mentioned(drafts):
    chosen = settings(drafts=drafts)
    message = request_message(next(plan(chosen, run=1, vocabulary=range(100))), chosen)
    assert (message.drafts if message.HasField("drafts") else None) is drafts
