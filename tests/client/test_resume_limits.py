"""How often and how long a broken stream is tried again, and giving up in between."""

import asyncio
import signal
import threading

import grpc
import pytest
from support.broken_streams import IDS, WHOLE, behind
from support.fake_service import LOST, PATIENCE_SECONDS, Hold, Refuse, first

from nextok import (
    AsyncClient,
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    NextokError,
    Unavailable,
)
from nextok.attempts import Attempts
from nextok.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize("sent", [0, 1, 5])
@pytest.mark.parametrize("resume", [0, 1, 3])
async def test_attempts_that_bring_nothing_new_are_bounded(hands, target, service, resume, sent):
    service.scripts = [[*WHOLE[:sent], LOST]]
    service.script = [first(), LOST]
    async with hands.open(target) as client:
        running = client.generate("x", resume=resume)
        with pytest.raises(Unavailable, match="connection lost"):
            await hands.all(running)
        with pytest.raises(Unavailable, match="connection lost"):
            await hands.next(running)
    assert len(service.requests) == 1 + resume
    assert running.resumed == resume
    assert [s.id for s in running.steps] == IDS[: max(0, sent - 3)]


async def test_progress_starts_the_count_anew(hands, target, service):
    nothing = [first(), LOST]
    service.scripts = [
        *([*WHOLE[:4], LOST], nothing, nothing),
        *([*behind(1)[:3], LOST], nothing, nothing),
        behind(2),
    ]
    running = await hands.read(target, resume=3)
    assert [s.id for s in running.steps] == IDS
    assert running.resumed == 6


async def test_pauses_double_with_jitter_up_to_a_bound(monkeypatch):
    monkeypatch.setattr("nextok.attempts.FIRST_PAUSE_SECONDS", 0.1)
    attempts = Attempts(print, pb.GenerateRequest(), resume=9, timeout=None)
    pauses = [attempts.pause() for _ in range(9)]
    for number, pause in enumerate(pauses):
        longest = min(0.1 * 2**number, 6.4)
        assert longest / 2 <= pause <= longest
    assert len({round(pause / 0.1 / 2**n, 6) for n, pause in enumerate(pauses[:6])}) > 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
    ids=lambda code: code.name,
)
async def test_other_statuses_are_raised_at_once(hands, target, service, code):
    service.script = [*WHOLE[:5], Refuse(code, "no")]
    async with hands.open(target) as client:
        running = client.generate("x")
        with pytest.raises(Exception, match="no") as caught:
            await hands.all(running)
    assert caught.value.code is code
    assert len(service.requests) == 1


@pytest.mark.parametrize("times", [1, 3])
async def test_a_server_that_cancels_before_it_said_anything_is_tried_again(
    hands, target, service, times
):
    service.scripts = [[Refuse(grpc.StatusCode.CANCELLED, "stopping")]] * times
    service.script = WHOLE
    running = await hands.read(target)
    assert [s.id for s in running.steps] == IDS
    assert running.resumed == times


async def test_streams_of_one_client_share_a_budget_of_attempts_in_vain(
    hands, target, service, monkeypatch
):
    monkeypatch.setattr("nextok.attempts._BUDGET", 6)
    service.script = [LOST]
    async with hands.open(target) as client:
        for _ in range(4):
            with pytest.raises(Unavailable):
                await hands.all(client.generate("x"))
        # One attempt a stream that asks nothing of the budget, and six that empty it.
        assert len(service.requests) == 4 * 2 + 6
        service.script = WHOLE
        for _ in range(2):
            await hands.all(client.generate("x"))
        service.script = [LOST]
        service.requests.clear()
        with pytest.raises(Unavailable):
            await hands.all(client.generate("x"))
        assert len(service.requests) == 2 + 2
        # A stream that brings something is gone on with all the same.
        service.scripts = [[*WHOLE[:4], LOST], behind(1)]
        assert [s.id for s in await hands.all(client.generate("x"))] == IDS


async def test_an_attempt_that_is_refused_ends_it(hands, target, service):
    service.scripts = [[*WHOLE[:5], LOST]]
    service.script = [Refuse(grpc.StatusCode.INVALID_ARGUMENT, "resume_token_ids[0]: is 21")]
    async with hands.open(target) as client:
        running = client.generate("x")
        with pytest.raises(InvalidArgument, match="resume_token_ids"):
            await hands.all(running)
    assert running.resumed == 1


async def test_a_negative_bound_is_refused_by_name(hands, target, service):
    async with hands.open(target) as client:
        with pytest.raises(ValueError, match="resume: is -1, the least is 0"):
            client.generate("x", resume=-1)
    assert service.requests == []


# Time.


async def test_all_attempts_and_pauses_share_one_budget_of_time(
    hands, target, service, monkeypatch
):
    monkeypatch.setattr("nextok.attempts.FIRST_PAUSE_SECONDS", 0.1)
    nothing = [first(), LOST]
    service.scripts = [nothing, nothing, behind(0)]
    await hands.read(target, timeout=3.0)
    # Two pauses, of which the second is twice as long. gRPC sends timeouts that differ by less
    # than 3% as one.
    assert service.time_left[0] - service.time_left[2] > 0.1


async def test_a_deadline_that_passes_in_a_pause_ends_it(hands, target, service, monkeypatch):
    monkeypatch.setattr("nextok.attempts.FIRST_PAUSE_SECONDS", 1000.0)
    service.script = [first(), LOST]
    async with hands.open(target) as client:
        running = client.generate("x", timeout=0.2)
        with pytest.raises(DeadlineExceeded, match=r"0\.2 s passed .* connection lost"):
            await hands.all(running)
    assert len(service.requests) == 1


async def test_a_deadline_that_passes_in_an_attempt_ends_it(hands, target, service):
    service.scripts = [[*WHOLE[:5], LOST], [first(), Hold()]]
    async with hands.open(target) as client:
        running = client.generate("x", timeout=0.5)
        with pytest.raises(DeadlineExceeded):
            await hands.all(running)
        assert service.given_up.wait(PATIENCE_SECONDS)
    assert [s.id for s in running.steps] == IDS[:2]


# Giving up in a pause.


@pytest.fixture
def long_pause(service, monkeypatch):
    """A stream that breaks, and pauses longer than any test; set when one begins."""
    service.script = [*WHOLE[:4], LOST]
    begun = threading.Event()
    count = Attempts.pause

    def pause(self):
        count(self)
        begun.set()
        return PATIENCE_SECONDS

    monkeypatch.setattr(Attempts, "pause", pause)
    return begun


def read_in_a_thread(generation):
    """Reads it to its end in another thread; returns that thread and the errors it meets."""
    errors = []

    def read():
        try:
            list(generation)
        except NextokError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("give_up", ["cancel", "close"])
def test_another_thread_can_end_a_pause(target, service, long_pause, give_up):
    with Client(target) as client:
        running = client.generate("x")
        thread, errors = read_in_a_thread(running)
        assert long_pause.wait(PATIENCE_SECONDS)
        running.cancel() if give_up == "cancel" else client.close()
        thread.join(PATIENCE_SECONDS)
    assert [type(error) for error in errors] == [Cancelled]
    assert [s.id for s in running.steps] == IDS[:1]
    assert len(service.requests) == 1


def test_ctrl_c_ends_a_pause(target, long_pause):
    def interrupt():
        long_pause.wait(PATIENCE_SECONDS)
        # A terminal's goes to the main thread, which has to wake up.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    with Client(target) as client, client.generate("x") as running:
        next(running)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            next(running)
    interrupting.join()


@pytest.mark.parametrize("give_up", ["cancel", "close"])
async def test_another_task_can_end_a_pause(target, service, long_pause, give_up):
    async with AsyncClient(target) as client:
        running = client.generate("x")
        task = asyncio.create_task(_read(running))
        assert await asyncio.to_thread(long_pause.wait, PATIENCE_SECONDS)
        if give_up == "cancel":
            running.cancel()
        else:
            await client.close()
        with pytest.raises(Cancelled):
            await task
    assert [s.id for s in running.steps] == IDS[:1]
    assert len(service.requests) == 1


async def test_a_task_that_is_cancelled_in_a_pause_stays_cancelled(target, long_pause):
    async with AsyncClient(target) as client:
        task = asyncio.create_task(_read(client.generate("x")))
        assert await asyncio.to_thread(long_pause.wait, PATIENCE_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_asyncio_timeout_ends_a_pause(target, long_pause):
    async with AsyncClient(target) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await _read(client.generate("x"))


async def _read(generation):
    async for _ in generation:
        pass


async def test_what_was_cancelled_is_not_tried_again(hands, target, service):
    service.script = [*WHOLE[:4], Hold()]
    async with hands.open(target) as client:
        running = client.generate("x")
        await hands.next(running)
        running.cancel()
        for _ in range(2):
            with pytest.raises(Cancelled):
                await hands.next(running)
    assert len(service.requests) == 1


async def test_a_resumed_generation_that_nobody_refers_to_is_cancelled(hands, target, service):
    service.scripts = [[*WHOLE[:4], LOST], [*behind(1)[:3], Hold()]]
    async with hands.open(target) as client:
        running = client.generate("x")
        await hands.next(running)
        await hands.next(running)
        del running
        assert service.given_up.wait(PATIENCE_SECONDS)
