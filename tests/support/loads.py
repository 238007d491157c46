"""Settings, exchanges and runs of `nextok bench`, with little to say in each test."""

from __future__ import annotations

from typing import Any

from nextok.bench.exchange import Exchange
from nextok.bench.lengths import Lengths
from nextok.bench.machine import ClientMachine
from nextok.bench.plan import Phase
from nextok.bench.report import SCHEMA, Resources, Run, Server
from nextok.bench.results import summarize
from nextok.bench.settings import Settings
from nextok.values import GenerateSummary, Timings, Usage


def settings(**changes: Any) -> Settings:
    """One stream, prompts of 8 and completions of 4 tokens, or what is changed of that."""
    values: dict[str, Any] = {
        "streams": 1,
        "request_rate": None,
        "context": None,
        "requests": 10,
        "warmup": 2,
        "prompt_tokens": Lengths(8, 8),
        "output_tokens": Lengths(4, 4),
        "prefix_share": 0.0,
        "prefix_tokens": 0,
        "seed": 0,
        "temperature": 0.0,
        "top_k": None,
        "top_p": None,
        "top_logprobs": 10,
        "drafts": None,
        "bypass_prefix_reuse": False,
        "timeout": None,
    }
    return Settings(**(values | changes))


def exchange(
    *arrivals: float,
    due: float = 0.0,
    sent: float | None = None,
    counts: tuple[int, ...] | None = None,
    ended: float | None = None,
    status: str = "OK",
    phase: Phase = Phase.MEASURED,
    cached: int = 0,
    queue: float = 0.25,
) -> Exchange:
    """A request whose tokens came at these times, one at a time unless counts say otherwise."""
    made = Exchange(phase, due, due if sent is None else sent)
    made.arrivals += arrivals
    made.counts += counts or (1,) * len(arrivals)
    made.status = status
    made.details = "" if status in ("", "OK") else f"about {status}"
    made.ended = (arrivals[-1] if arrivals else due) if ended is None and status else ended
    if status == "OK":
        made.summary = GenerateSummary(
            Usage(8, made.tokens, cached, 0, 0), Timings(queue, 0.5, 1.0)
        )
    return made


def run(number: int = 1, *, speed: float = 1.0, complete: bool = True, **changes: Any) -> Run:
    """A run of ten requests whose tokens come the faster the larger its speed is."""
    exchanges = [
        exchange(*(i + n / speed for n in (0.1, 0.2, 0.4, 0.5)), due=float(i)) for i in range(10)
    ]
    server = Server(
        name="x",
        precision="int8",
        layers=2,
        heads=2,
        width=64,
        context_length=128,
        artifact_sha256="aa",
        threads=2,
        slots=32,
        max_queue=128,
        server_version="1",
        onnxruntime_version="2",
    )
    return Run(
        schema=SCHEMA,
        run=number,
        runs=number,
        repeat=1,
        started_at="2026-01-01T00:00:00+00:00",
        complete=complete,
        target="localhost:1",
        connections=1,
        settings=settings(**changes),
        server=server,
        client=ClientMachine("CPU", 2, "Linux", "3.11", "0", "1", "2"),
        resources=Resources(1.0, 0.5, None, None, None),
        results=summarize(exchanges, end=9.5),
    )
