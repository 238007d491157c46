"""Real programs, one of each for all tests here: a server, and the web application before it."""

from contextlib import asynccontextmanager

import grpc
import openai
import pytest
from support.fake_service import FakeService, serving
from support.serving import Running
from support.web import program, running_web, web_program

from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok_server.tokenizer import Tokenizer


@asynccontextmanager
async def openai_client(url, **options):
    options = {"api_key": "none is needed", "max_retries": 0, **options}
    async with openai.AsyncOpenAI(base_url=f"{url}v1", **options) as client:
        yield client


@pytest.fixture(scope="session")
def target(artifacts):
    """Where the server is."""
    arguments = (str(artifacts["fp32"]), "--listen", "127.0.0.1:0", "--no-spinning")
    says = "nextok: listening on "
    with program("nextok_server", *arguments, "--slots", "4", says=says) as address:
        yield address


@pytest.fixture(scope="session")
def site(target):
    """The page's address."""
    with web_program(target) as url:
        yield url


@pytest.fixture
async def server(target, artifacts):
    """The same server, to be asked without the page."""
    tokenizer = Tokenizer.from_file(artifacts["fp32"] / "tokenizer.json")
    async with grpc.aio.insecure_channel(target) as channel:
        yield Running(None, channel, pb_grpc.TextGenerationServiceStub(channel), tokenizer)


@pytest.fixture
async def client(site):
    async with openai_client(site) as client:
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
