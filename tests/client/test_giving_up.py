"""Giving a call up: on both clients, and in the ways that only threads, signals and tasks have."""

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path

import pytest
from support.fake_service import PATIENCE_SECONDS, Hold, first, generation

from nextok import AsyncClient, Cancelled, Client, DeadlineExceeded


async def test_a_deadline_ends_the_stream_and_the_servers_work(hands, target, service):
    service.script = [first(), Hold()]
    async with hands.open(target) as client:
        running = client.generate("x", timeout=0.2)
        with pytest.raises(DeadlineExceeded):
            await hands.all(running)
        assert service.given_up.wait(PATIENCE_SECONDS)


async def test_cancel_ends_the_stream_and_the_servers_work(hands, target, service):
    service.script = [*generation("a")[:2], Hold()]
    async with hands.open(target) as client:
        running = client.generate("x")
        await hands.next(running)
        running.cancel()
        assert service.given_up.wait(PATIENCE_SECONDS)
        with pytest.raises(Cancelled):
            await hands.next(running)


async def test_leaving_the_with_cancels(hands, target, service):
    service.script = [*generation("a")[:2], Hold()]
    async with hands.open(target) as client:
        running = client.generate("x")
        async with hands.inside(running):
            await hands.next(running)
        assert service.given_up.wait(PATIENCE_SECONDS)


async def test_an_error_inside_the_with_cancels_and_goes_on(hands, target, service):
    service.script = [*generation("a")[:2], Hold()]
    async with hands.open(target) as client:
        with pytest.raises(ZeroDivisionError):
            await fail_at_the_first_step(hands, client.generate("x"))
        assert service.given_up.wait(PATIENCE_SECONDS)


async def fail_at_the_first_step(hands, running):
    async with hands.inside(running):
        await hands.next(running)
        raise ZeroDivisionError


async def test_a_generation_that_nobody_refers_to_is_cancelled(hands, target, service):
    service.script = [*generation("a")[:2], Hold()]
    async with hands.open(target) as client:
        running = client.generate("x")
        await hands.next(running)
        del running
        assert service.given_up.wait(PATIENCE_SECONDS)


async def test_cancel_after_the_end_changes_nothing(hands, target, service):
    async with hands.open(target) as client:
        async with hands.inside(client.generate("x")) as running:
            await hands.all(running)
            running.cancel()
            assert await hands.all(running) == []
        assert running.finish is not None
    assert not service.given_up.is_set()


# Loops, threads, signals and tasks.


def test_break_ends_the_servers_work(target, service):
    service.script = [*generation("a", "b")[:3], Hold()]
    with Client(target) as client:
        for step in client.generate("x"):
            assert step.token == "a"
            break
        assert service.given_up.wait(PATIENCE_SECONDS)


async def test_break_out_of_an_async_loop_ends_the_servers_work(target, service):
    service.script = [*generation("a", "b")[:3], Hold()]
    async with AsyncClient(target) as client:
        async for step in client.generate("x"):
            assert step.token == "a"
            break
        assert service.given_up.wait(PATIENCE_SECONDS)


def test_another_thread_can_cancel_while_a_step_is_waited_for(target, service):
    service.script = [first(), Hold()]
    with Client(target) as client:
        running = client.generate("x")
        running.start()
        canceller = threading.Thread(target=running.cancel)
        canceller.start()
        with pytest.raises(Cancelled):
            next(running)
        canceller.join()
        assert service.given_up.wait(PATIENCE_SECONDS)


def test_ctrl_c_is_noticed_while_a_step_is_waited_for(target, service):
    service.script = [first(), Hold()]
    interrupt = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    with Client(target) as client, client.generate("x") as running:
        running.start()
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            next(running)
    interrupt.join()
    assert service.given_up.wait(PATIENCE_SECONDS)


async def test_cancelled_calls_leave_no_memory_behind(hands, target, service):
    service.script = [*generation("a")[:2], Hold()]
    async with hands.open(target) as client:
        await cancel_many(hands, client, 100)  # what is allocated once
        grown = []
        for _ in range(3):
            before = resident_bytes()
            await cancel_many(hands, client, 150)
            grown.append(resident_bytes() - before)
        # What is kept is kept every time; what else this process does makes it grow now and then.
        assert min(grown) / 150 < 8192  # client and server together


async def cancel_many(hands, client, count):
    for _ in range(count):
        async with hands.inside(client.generate("x")) as running:
            await hands.next(running)


def resident_bytes():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_threads_share_a_client(target, service):
    texts = []
    with Client(target) as client:
        threads = [
            threading.Thread(
                target=lambda: texts.append("".join(s.delta for s in client.generate("x")))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == [" and it."] * 4


async def _read(generation, received):
    async for _ in generation:
        received.set()


async def test_a_cancelled_task_stays_cancelled_and_ends_the_servers_work(target, service):
    service.script = [*generation("a")[:2], Hold()]
    received = asyncio.Event()
    async with AsyncClient(target) as client:
        task = asyncio.create_task(_read(client.generate("x"), received))
        await received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert await asyncio.to_thread(service.given_up.wait, PATIENCE_SECONDS)


async def test_asyncio_timeout_ends_the_servers_work(target, service):
    service.script = [first(), Hold()]
    async with AsyncClient(target) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await _read(client.generate("x"), asyncio.Event())
        assert await asyncio.to_thread(service.given_up.wait, PATIENCE_SECONDS)


async def test_cancelling_the_call_is_not_cancelling_the_task_that_reads_it(target, service):
    service.script = [*generation("a")[:2], Hold()]
    received = asyncio.Event()
    async with AsyncClient(target) as client:
        running = client.generate("x")
        task = asyncio.create_task(_read(running, received))
        await received.wait()
        running.cancel()
        with pytest.raises(Cancelled):
            await task
        assert not task.cancelled()


async def test_a_task_that_is_cancelled_along_with_its_call_stays_cancelled(target, service):
    service.script = [*generation("a")[:2], Hold()]
    received = asyncio.Event()
    async with AsyncClient(target) as client:
        running = client.generate("x")
        task = asyncio.create_task(_read(running, received))
        await received.wait()
        running.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_prompt_of_an_async_generation_has_to_be_waited_for(target, service):
    async with AsyncClient(target) as client:
        running = client.generate("x")
        with pytest.raises(RuntimeError, match="start"):
            _ = running.prompt
        await running.start()
        assert running.prompt.seed == 7
