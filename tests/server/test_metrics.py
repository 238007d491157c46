"""What Prometheus is told, over HTTP, by a server that was used."""

from __future__ import annotations

import asyncio
import json
import math
import re
import urllib.request
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from support.serving import generate, generate_request, running_server

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.config import ConfigError, load
from nextok_server.tally import Histogram

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "nextok.json"


@pytest_asyncio.fixture
async def server(artifacts):
    async with running_server(artifacts["fp32"], metrics_listen="127.0.0.1:0", slots=4) as running:
        yield running


class Told:
    """One scrape."""

    def __init__(self, text):
        families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name, **labels):
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) < 2
        # What never happened is not told with its labels.
        return found[0] if found else 0


async def scrape(running):
    def read():
        url = f"http://127.0.0.1:{running.app.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return Told(reply.read().decode())

    return await asyncio.to_thread(read)


async def scrape_until(running, holds):
    """What is told once something holds of it: the engine and its readers are not in step."""
    async with asyncio.timeout(60):
        while not holds(told := await scrape(running)):
            pass
        return told


async def test_tokens_times_and_fill_are_those_of_what_was_served(server):
    before = await scrape(server)
    assert before.value("nextok:serving") == 1
    assert before.value("nextok:generation_tokens_total") == 0
    replies = [await generate(server, "Once upon a", max_tokens=8, ignore_eos=True)]
    prompt = len(replies[0].prompt.tokens)
    told = await scrape(server)
    assert told.value("nextok:generation_tokens_total") == 8
    assert told.value("nextok:prompt_tokens_total") == prompt
    assert told.value("nextok:time_to_first_token_seconds_count") == 1
    assert told.value("nextok:inter_token_latency_seconds_count") == 7
    assert told.value("nextok:request_queue_time_seconds_count") == 1
    assert told.value("nextok:iteration_tokens_total_sum") == prompt + 7
    assert told.value("nextok:iteration_rows_sum") == told.value("nextok:iteration_rows_count") == 8
    assert told.value("nextok:iteration_seconds_count") == 8
    assert told.value("nextok:request_success_total", finished_reason="length") == 1
    assert told.value("nextok:requests_total", rpc="Generate", status="OK") == 1
    assert told.value("nextok:e2e_request_latency_seconds_count", rpc="Generate") == 1
    timings = replies[0].messages[-1].summary.timings
    first = told.value("nextok:time_to_first_token_seconds_sum")
    # It counts to the end of the step, these to where the token was drawn in it.
    assert 0 <= first - timings.queue_seconds - timings.prefill_seconds < 0.5
    gaps = told.value("nextok:inter_token_latency_seconds_sum")
    assert gaps == pytest.approx(timings.decode_seconds, abs=0.5)


async def test_tokens_that_the_client_sent_again_are_not_counted_as_drawn(server):
    ids = (await generate(server, "Once", max_tokens=6, ignore_eos=True)).ids
    before = await scrape(server)
    await generate(server, "Once", max_tokens=6, ignore_eos=True, resume_token_ids=ids[:4])
    told = await scrape(server)
    drawn = "nextok:generation_tokens_total"
    assert told.value(drawn) - before.value(drawn) == 2


async def test_a_prefix_that_was_taken_from_the_cache_is_a_hit(server):
    long = list(range(100))
    await generate(server, long, max_tokens=1)
    reply = await generate(server, long, max_tokens=1)
    told = await scrape(server)
    assert told.value("nextok:prefix_cache_queries_total") == 200
    assert told.value("nextok:prefix_cache_hits_total") == reply.usage.cached_tokens == 64


async def test_drafts_are_counted(server):
    reply = await generate(server, [5, 6, 7] * 12, max_tokens=40, drafts=True, ignore_eos=True)
    told = await scrape(server)
    assert told.value("nextok:spec_decode_num_draft_tokens_total") == reply.usage.drafted_tokens
    accepted = told.value("nextok:spec_decode_num_accepted_tokens_total")
    assert accepted == reply.usage.accepted_draft_tokens
    assert told.value("nextok:generation_tokens_total") == 40


async def test_what_runs_and_waits_is_told_and_so_are_cancels_and_refusals(artifacts):
    settings = {"metrics_listen": "127.0.0.1:0", "slots": 1, "max_queue": 1, "stream_window": 1}
    async with running_server(artifacts["fp32"], **settings) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await generate(server, "bad", temperature=-1.0)
        # It is one step behind from the start, and so it stays where it is.
        request = generate_request("Once", max_tokens=100, full_vocabulary=True, ignore_eos=True)
        runs, waits = server.stub.Generate(request), server.stub.Generate(request)
        await runs.read()
        await waits.read()
        with pytest.raises(grpc.aio.AioRpcError):
            await generate(server, "too many")
        told = await scrape_until(
            server,
            lambda told: (
                told.value("nextok:num_requests_running") == 1
                and told.value("nextok:num_requests_waiting") == 1
                and 0 < told.value("nextok:kv_cache_usage_perc") < 1
            ),
        )
        assert told.value("nextok:requests_refused_total", reason="QueueFull") == 1
        assert told.value("nextok:requests_refused_total", reason="InvalidRequest") == 1
        status = {"rpc": "Generate", "status": "RESOURCE_EXHAUSTED"}
        assert told.value("nextok:requests_total", **status) == 1
        runs.cancel()
        waits.cancel()
        status = {"rpc": "Generate", "status": "CANCELLED"}
        await scrape_until(server, lambda told: told.value("nextok:requests_total", **status) == 2)


async def test_names_that_callers_make_up_are_counted_under_one(artifacts, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text("")
    settings = {"metrics_listen": "127.0.0.1:0", "tokens_file": path}
    async with running_server(artifacts["fp32"], **settings) as server:
        for number in range(3):
            call = server.channel.unary_unary(f"/made.up.Service/Rpc{number}")
            with pytest.raises(grpc.aio.AioRpcError):
                await call(b"")
        with pytest.raises(grpc.aio.AioRpcError):
            await server.stub.GetModel(pb.GetModelRequest())
        told = await scrape(server)
        status = {"status": "UNAUTHENTICATED"}
        assert told.value("nextok:requests_total", rpc="other", **status) == 3
        assert told.value("nextok:requests_total", rpc="GetModel", **status) == 1
        assert told.value("nextok:requests_refused_total", reason="Unauthenticated") == 4


async def test_every_metric_that_the_dashboard_names_is_told(server):
    await generate(server, "Once upon a", max_tokens=2)
    with pytest.raises(grpc.aio.AioRpcError):
        await generate(server, "bad", temperature=-1.0)
    told = {sample.name for sample in (await scrape(server)).samples}
    board = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    expressions += [entry["query"] for entry in board["templating"]["list"]]
    named = {
        name
        for expression in expressions
        for name in re.findall(r"nextok:\w+|process_\w+", expression)
    }
    assert len(named) > 20
    assert named <= told


async def test_two_servers_of_one_process_count_for_themselves(artifacts, server):
    async with running_server(artifacts["int8"], metrics_listen="127.0.0.1:0") as other:
        await generate(other, "Once", max_tokens=3, ignore_eos=True)
        assert (await scrape(other)).value("nextok:generation_tokens_total") == 3
        assert (await scrape(server)).value("nextok:generation_tokens_total") == 0


def test_metrics_are_not_told_to_others_by_mistake():
    flags = {"artifact": "x", "metrics_listen": "0.0.0.0:9100"}
    with pytest.raises(ConfigError, match="refusing to tell metrics on 0"):
        load(flags, None)
    settings, _ = load({**flags, "metrics_in_clear": True}, None)
    assert settings.metrics_listen == "0.0.0.0:9100"


def test_a_value_at_a_bound_is_within_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, math.inf):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
