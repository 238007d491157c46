"""Servers over a tiny random GPT-2, and torch as the judge of their numbers."""

from __future__ import annotations

import pytest
import pytest_asyncio
from support.prefills import Prefills
from support.serving import running_server

from nextok_server.model import Model


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def fp32_server(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def int8_server(artifacts):
    async with running_server(artifacts["int8"]) as running:
        yield running


@pytest.fixture
def prefills(monkeypatch):
    recorded = Prefills()
    real = Model.forward

    def forward(self, chunks, *args, **kwargs):
        if prompts := [chunk for chunk in chunks if len(chunk.tokens) > 1]:
            recorded.enter(prompts)
        return real(self, chunks, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", forward)
    yield recorded
    recorded.release()
