"""Traces: a span a call, below the caller's, with what it went through; only if asked for."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from support.serving import generate_request, read_rest, running_server

from nextok_server import tracing
from nextok_server.config import ConfigError
from nextok_server.transport import open_tracing

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter(monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "make_exporter", lambda _endpoint: exporter)
    return exporter


async def test_a_generation_is_a_span_with_its_phases_below_the_callers_own(artifacts, exporter):
    async with running_server(artifacts["fp32"], trace_endpoint="http://x/v1/traces") as running:
        call = running.stub.Generate(
            generate_request("secretprompt", max_tokens=5, ignore_eos=True),
            metadata=(("traceparent", f"00-{TRACE}-{CALLER}-01"), ("x-request-id", "asked-for")),
        )
        await read_rest(call)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    root = spans.pop("nextok.v1.TextGenerationService/Generate")
    assert root.kind is SpanKind.SERVER
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == CALLER
    assert root.attributes["nextok.request_id"] == "asked-for"
    assert root.attributes["rpc.grpc.status_code"] == 0
    assert list(spans) == ["queue", "prefill", "decode"]
    for before, after in zip(("queue", "prefill"), ("prefill", "decode"), strict=True):
        assert spans[before].end_time == pytest.approx(spans[after].start_time, abs=1_000_000)
    for span in spans.values():
        assert span.parent.span_id == root.context.span_id
        assert root.start_time - 1_000_000 <= span.start_time <= span.end_time <= root.end_time
    assert spans["decode"].attributes["gen_ai.usage.output_tokens"] == 5
    assert spans["prefill"].attributes["gen_ai.usage.input_tokens"] > 1
    assert "secretprompt" not in "".join(span.to_json() for span in (root, *spans.values()))


async def test_a_call_that_fails_or_is_cancelled_is_told_as_such(artifacts, exporter):
    async with running_server(artifacts["fp32"], trace_endpoint="http://x/v1/traces") as running:
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.Generate(generate_request("secretprompt", temperature=-1)).read()
        call = running.stub.Generate(generate_request("x", ignore_eos=True, max_tokens=100))
        await call.read()
        call.cancel()
    roots = [span for span in exporter.get_finished_spans() if span.parent is None]
    codes = [span.attributes["rpc.grpc.status_code"] for span in roots]
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.CANCELLED.value[0]]
    assert {span.status.status_code for span in roots} == {StatusCode.ERROR}
    assert not any(span.events for span in roots)
    assert "secretprompt" not in "".join(span.to_json() for span in roots)


def test_nothing_of_opentelemetry_is_loaded_unless_asked_for():
    code = "import nextok_server.app, sys; print(any('opentelemetry' in m for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_missing_extra_is_named_with_the_setting(monkeypatch, tmp_path):
    from nextok_server.config import Config

    def absent(_endpoint):
        raise ImportError("No module named 'opentelemetry'")

    monkeypatch.setattr(tracing, "make_exporter", absent)
    config = Config(artifact=tmp_path, trace_endpoint="http://x/v1/traces")
    with pytest.raises(ConfigError, match=r"trace_endpoint: needs the extra otel"):
        open_tracing(config)
