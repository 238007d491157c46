"""What Prometheus is told: the only place that imports prometheus_client.

Knows: the metrics' names, how they are served. Does not know: where the figures come from.

Names are those of vLLM's with another prefix wherever both count the same, so that dashboards
carry over: https://docs.vllm.ai/en/stable/usage/metrics/
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import MetricsHandler

from nextok_server.tally import Histogram, Tally

PREFIX = "nextok:"
_MODEL = "model_name"
# For a client to send its request and take the answer.
_HTTP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Load:
    """How things stand at a moment.

    Attributes:
        running: Sequences that are computed.
        waiting: Sequences that wait for a slot.
        cache_usage: Part of the cache that running sequences use, 0 to 1.
        serving: Whether health says so.
    """

    running: int
    waiting: int
    cache_usage: float
    serving: bool


class Exposition:
    """Gives the figures of one server their names, whenever they are asked for.

    Args:
        tally: What was counted.
        load: Tells how things stand.
        model_name: On every metric.
        about: Of the server and what it serves.
    """

    def __init__(
        self,
        tally: Tally,
        load: Callable[[], Load],
        model_name: str,
        about: Mapping[str, str],
    ) -> None:
        self._tally = tally
        self._load = load
        self._model = model_name
        self._about = about

    def collect(self) -> Iterator[Metric]:
        """Every metric, as prometheus_client asks for them."""
        yield InfoMetricFamily(PREFIX + "server", "What runs here.", value=dict(self._about))
        yield from self._gauges(self._load())
        yield from self._token_counters()
        yield from self._call_counters()
        yield from self._histograms()

    def _gauges(self, load: Load) -> Iterator[Metric]:
        for name, text, value in (
            ("num_requests_running", "Sequences that are computed.", load.running),
            ("num_requests_waiting", "Sequences that wait for a slot.", load.waiting),
            ("kv_cache_usage_perc", "Part of the cache in use; 1 is all.", load.cache_usage),
            ("serving", "1 where health is SERVING.", load.serving),
        ):
            metric = GaugeMetricFamily(PREFIX + name, text, labels=[_MODEL])
            metric.add_metric([self._model], float(value))
            yield metric

    def _token_counters(self) -> Iterator[Metric]:
        tally = self._tally
        for name, text, value in (
            ("prompt_tokens", "Tokens of prompts.", tally.prompts),
            ("generation_tokens", "Tokens drawn.", tally.generated),
            ("prefix_cache_queries", "Tokens of prompts looked for in the cache.", tally.prompts),
            ("prefix_cache_hits", "Tokens of prompts taken from the cache.", tally.cached),
            ("spec_decode_num_draft_tokens", "Tokens drafted.", tally.drafted),
            ("spec_decode_num_accepted_tokens", "Drafted tokens that were right.", tally.accepted),
            ("engine_stalls", "How often the engine was found to be stuck.", tally.stalls),
        ):
            metric = CounterMetricFamily(PREFIX + name, text, labels=[_MODEL])
            metric.add_metric([self._model], value)
            yield metric

    def _call_counters(self) -> Iterator[Metric]:
        tally = self._tally
        calls = CounterMetricFamily(
            PREFIX + "requests", "Calls that ended.", labels=[_MODEL, "rpc", "status"]
        )
        for (rpc, status), count in tuple(tally.answered.items()):
            calls.add_metric([self._model, rpc, status], count)
        yield calls
        for name, text, label, counts in (
            ("requests_refused", "Calls ended by an error.", "reason", tally.refused),
            ("request_success", "Completions that ended.", "finished_reason", tally.finished),
        ):
            metric = CounterMetricFamily(PREFIX + name, text, labels=[_MODEL, label])
            for value, count in tuple(counts.items()):
                metric.add_metric([self._model, value], count)
            yield metric

    def _histograms(self) -> Iterator[Metric]:
        tally = self._tally
        for name, text, histogram in (
            ("time_to_first_token_seconds", "From arrival to the first token.", tally.first_tokens),
            ("inter_token_latency_seconds", "Between a sequence's tokens.", tally.gaps),
            (
                "request_queue_time_seconds",
                "From arrival to the first step.",
                tally.queueing,
            ),
            ("iteration_tokens_total", "Tokens that a step computes.", tally.step_tokens),
            ("iteration_rows", "Sequences in a step.", tally.step_rows),
            ("iteration_seconds", "Duration of a step.", tally.steps),
        ):
            metric = HistogramMetricFamily(PREFIX + name, text, labels=[_MODEL])
            _add(metric, [self._model], histogram)
            yield metric
        latencies = HistogramMetricFamily(
            PREFIX + "e2e_request_latency_seconds", "Duration of calls.", labels=[_MODEL, "rpc"]
        )
        for rpc, histogram in tuple(tally.latencies.items()):
            _add(latencies, [self._model, rpc], histogram)
        yield latencies


def _add(metric: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    counts = accumulate(histogram.counts)
    metric.add_metric(labels, list(zip(bounds, counts, strict=True)), histogram.total)


class MetricsServer:
    """Serves metrics over HTTP, on threads of its own.

    Attributes:
        port: Where it listens.

    Args:
        address: HOST:PORT; port 0 picks a free one.
        exposition: What is told, besides the process's own memory, time and descriptors.

    Raises:
        OSError: The address cannot be listened on.
    """

    def __init__(self, address: str, exposition: Exposition) -> None:
        registry = CollectorRegistry()
        registry.register(exposition)
        ProcessCollector(registry=registry)
        handler = MetricsHandler.factory(registry)
        handler.timeout = _HTTP_SECONDS  # type: ignore[attr-defined] # of the socket, as its base has it
        host, _, port = address.rpartition(":")
        try:
            self._server = _listen(host.removeprefix("[").removesuffix("]"), int(port), handler)
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="nextok-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's own, which asks the name service for the host's full name."""

    daemon_threads = True
    allow_reuse_address = True


def _listen(host: str, port: int, handler: type) -> _Server:
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server = type("_Server", (_Server,), {"address_family": family})
    made: _Server = server(place, handler)
    return made
