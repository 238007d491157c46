"""The log: JSON where a program reads it, a console where a person does, no text of prompts."""

from __future__ import annotations

import contextlib
import io
import json
import time

import grpc
import pytest
import structlog
from support.serving import generate_request, read_rest, running_server

from nextok_server import logs
from nextok_server.line_limit import LINES, LineLimit
from nextok_server.model import Model


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def as_before():
    yield
    structlog.reset_defaults()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_every_line_about_a_call_has_its_id_and_its_rpc_and_none_has_its_text(artifacts):
    stream = io.StringIO()
    logs.set_up("debug", "auto", stream)
    async with running_server(artifacts["fp32"]) as running:
        for fields in ({}, {"temperature": -1}, {"stop": ["secretstop"] * 99}):
            call = running.stub.Generate(
                generate_request("secretprompt", max_tokens=2, **fields),
                metadata=(("x-request-id", "asked-for"),),
            )
            with contextlib.suppress(grpc.aio.AioRpcError):
                await read_rest(call)
    found = [line for line in lines(stream) if line["event"] in ("generated", "refused")]
    assert len(found) == 3
    assert all((line["request_id"], line["rpc"]) == ("asked-for", "Generate") for line in found)
    assert "secret" not in stream.getvalue()


async def test_a_flood_of_refusals_is_counted_rather_than_written_out(artifacts):
    stream, refused = io.StringIO(), 40
    logs.set_up("info", "json", stream)
    async with running_server(artifacts["fp32"], slots=1, max_queue=0) as running:
        runs = running.stub.Generate(generate_request("hello", ignore_eos=True))
        await runs.read()
        began = time.monotonic()
        for _ in range(refused):
            with pytest.raises(grpc.aio.AioRpcError):
                await read_rest(running.stub.Generate(generate_request("hello")))
        seconds = time.monotonic() - began
        runs.cancel()
    found = [line for line in lines(stream) if line["event"] == "refused"]
    assert LINES <= len(found) <= LINES * (int(seconds) + 2)


def test_after_lines_that_were_left_out_the_next_one_says_how_many():
    now = 100.0
    limit = LineLimit(2, clock=lambda: now)
    assert [limit.take() for _ in range(5)] == [0, 0, None, None, None]
    now = 100.9
    assert limit.take() is None
    now = 101.0
    assert [limit.take() for _ in range(3)] == [4, 0, None]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "console"])
async def test_a_fault_is_logged_with_its_traceback_but_no_values_of_variables(
    artifacts, monkeypatch, stream
):
    def broken(self, *args, **kwargs):
        prompt = "secretprompt"
        raise RuntimeError(f"a prompt of {len(prompt)}")

    monkeypatch.setattr(Model, "forward", broken)
    logs.set_up("info", "auto", stream)
    async with running_server(artifacts["fp32"]) as running:
        with pytest.raises(grpc.aio.AioRpcError):
            await read_rest(running.stub.Generate(generate_request("secretprompt")))
    text = stream.getvalue()
    assert "engine_failed" in text
    assert "RuntimeError: a prompt of 12" in text
    # The line of code is shown, the value is not.
    assert text.count("secretprompt") == text.count('prompt = "secretprompt"')


def test_a_terminal_gets_a_console_and_a_pipe_json_unless_told_otherwise():
    for form, stream, is_json in (
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ):
        logs.set_up("info", form, stream)
        structlog.get_logger().info("hello", number=1)
        assert stream.getvalue().startswith("{") == is_json


def test_what_is_below_the_level_is_not_logged():
    stream = io.StringIO()
    logs.set_up("warning", "json", stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]
