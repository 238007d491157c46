"""Pings: our clients' never earn a GOAWAY, and others' do where they are too many."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.serving import running_server

from nextok.channel import channel_options
from nextok_server.config import Config

# A server that says nothing about pings admits one in five minutes.
GRPCS_OWN_LIMIT_MS = 5 * 60 * 1000
EAGER = [
    ("grpc.keepalive_time_ms", 200),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


def test_the_clients_ping_less_often_than_any_server_minds(tmp_path):
    options = dict(channel_options())
    assert options["grpc.keepalive_time_ms"] > GRPCS_OWN_LIMIT_MS
    limit = Config(artifact=tmp_path).min_ping_interval
    assert options["grpc.keepalive_time_ms"] > 1000 * limit
    assert options["grpc.keepalive_permit_without_calls"] == 0


async def test_the_servers_setting_is_what_decides_who_pings_too_often(artifacts):
    request = health_pb2.HealthCheckRequest()
    async with (
        running_server(artifacts["fp32"], min_ping_interval=60.0) as strict,
        running_server(artifacts["fp32"], min_ping_interval=0.05) as lenient,
        grpc.aio.insecure_channel(strict.target, options=EAGER) as one,
        grpc.aio.insecure_channel(lenient.target, options=EAGER) as other,
    ):
        cut, kept = (health_pb2_grpc.HealthStub(channel).Watch(request) for channel in (one, other))
        await kept.read()
        await cut.read()
        # Some pings later, on both; nobody has anything to say.
        async with asyncio.timeout(30):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await cut.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "too many pings" in raised.value.details().lower().replace("_", " ")
        assert not kept.done()
        reply = await health_pb2_grpc.HealthStub(other).Check(request)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        kept.cancel()
