"""Spans for OpenTelemetry: the only place that imports it, and only where traces are asked for.

Knows: spans, what a call tells of its phases. Does not know: the engine, what an rpc does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import grpc

from nextok_server import current_call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

Attributes = Mapping[str, str | int]


class Tracing:
    """Traces of one server; nothing of it is global.

    Args:
        exporter: Where finished spans go, some seconds later.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about = {"service.name": "nextok-server", "service.version": version("nextok")}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("nextok_server")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    @contextlib.contextmanager
    def call(
        self, method: str, metadata: Any, request_id: str
    ) -> Iterator[Callable[[grpc.StatusCode], None]]:
        """A span around a call, below the caller's own if it told one; yields what ends it well.

        Exceptions are not recorded, since they may quote a prompt.
        """
        told = {key: value for key, value in metadata if isinstance(value, str)}
        service, _, name = method.strip("/").rpartition("/")
        with self._tracer.start_as_current_span(
            f"{service}/{name}",
            context=self._propagator.extract(told),
            kind=self._kind,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "nextok.request_id": request_id,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            current_call.trace.set(self._phase)

            def end(status: grpc.StatusCode) -> None:
                span.set_attribute("rpc.grpc.status_code", status.value[0])
                if status is not grpc.StatusCode.OK:
                    span.set_status(self._failed)

            yield end

    def close(self) -> None:
        """Sends what was not sent yet."""
        self._provider.shutdown()

    def _phase(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        """A span below the current one, of a time that has passed, by time.monotonic()."""
        offset = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            name, start_time=offset + int(began * 1e9), attributes=dict(attributes)
        )
        span.end(offset + int(ended * 1e9))


def make_tracing(endpoint: str) -> Tracing:
    """Traces that go to a collector.

    Raises:
        ValueError: The extra `otel` is not installed.
    """
    try:
        return Tracing(make_exporter(endpoint))
    except ImportError as error:
        raise ValueError(f"needs the extra otel, pip install 'nextok[otel]': {error}") from None


def make_exporter(endpoint: str) -> SpanExporter:
    """Sends spans to a collector by OTLP over HTTP."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter: SpanExporter = OTLPSpanExporter(endpoint)
    return exporter
