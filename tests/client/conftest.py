"""One fake server a test, and one pair of hands for both clients."""

import inspect
from contextlib import asynccontextmanager

import pytest
from support.fake_service import FakeService, serving

from nextok import AsyncClient, Client


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def target(service):
    with serving(service) as target:
        yield target


@pytest.fixture
def short_pauses(monkeypatch):
    """Streams that break are tried again at once."""
    monkeypatch.setattr("nextok.attempts.FIRST_PAUSE_SECONDS", 0.001)


class Hands:
    """Does with either client what plain code does with the sync one."""

    def __init__(self, client_class):
        self.client_class = client_class

    @asynccontextmanager
    async def open(self, target, **arguments):
        if self.client_class is AsyncClient:
            async with AsyncClient(target, **arguments) as client:
                yield client
        else:
            with Client(target, **arguments) as client:
                yield client

    async def get(self, result):
        return await result if inspect.isawaitable(result) else result

    async def next(self, generation):
        return await anext(generation) if hasattr(generation, "__anext__") else next(generation)

    async def each(self, generation):
        if hasattr(generation, "__anext__"):
            async for step in generation:
                yield step
        else:
            for step in generation:
                yield step

    async def all(self, generation):
        return [step async for step in self.each(generation)]

    async def read(self, target, **options):
        """Reads a generation with the prompt's scores to its end; returns it."""
        async with self.open(target) as client:
            running = client.generate("x", prompt_logprobs=True, **options)
            await self.all(running)
            return running

    @asynccontextmanager
    async def inside(self, generation):
        if hasattr(generation, "__aenter__"):
            async with generation:
                yield generation
        else:
            with generation:
                yield generation


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def hands(request):
    return Hands(request.param)
