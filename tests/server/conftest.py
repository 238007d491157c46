"""Servers over a tiny random GPT-2, and torch as the judge of their numbers."""

from __future__ import annotations

import pytest_asyncio
from support.serving import running_server


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def fp32_server(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def int8_server(artifacts):
    async with running_server(artifacts["int8"]) as running:
        yield running
