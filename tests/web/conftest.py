"""A real server, the web application in front of it, and OpenAI's own client."""

from contextlib import asynccontextmanager

import openai
import pytest
from support.fake_service import FakeService, serving
from support.serving import running_server
from support.web import running_web


@asynccontextmanager
async def openai_client(url, **options):
    options = {"api_key": "none is needed", "max_retries": 0, **options}
    async with openai.AsyncOpenAI(base_url=f"{url}v1", **options) as client:
        yield client


@pytest.fixture
async def server(artifacts):
    async with running_server(artifacts["fp32"], slots=4) as running:
        yield running


@pytest.fixture
async def page(server):
    async with running_web(server.target) as url:
        yield url


@pytest.fixture
async def client(page):
    async with openai_client(page) as client:
        yield client


@pytest.fixture
async def model(client):
    """The name of the one that is served."""
    return (await client.models.list()).data[0].id


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
async def fake_client(service):
    """In front of a server whose answers are scripted."""
    with serving(service) as target:
        async with running_web(target) as url, openai_client(url) as client:
            yield client
