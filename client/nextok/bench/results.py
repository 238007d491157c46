"""The figures of a run, computed from its exchanges.

Pure. docs/bench.md says what each figure means; names are those of vLLM's benchmark where it
has the figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nextok.bench.exchange import Exchange
from nextok.bench.plan import Phase


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure is distributed, in its own unit.

    Attributes:
        count: Values that there were.
        mean: Their mean.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile; of fewer than 100 values, little more than the largest.
        max: The largest.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Failures:
    """Requests that ended with one gRPC status.

    Attributes:
        count: How many.
        first: What was said about the first of them.
    """

    count: int
    first: str


@dataclass(frozen=True, slots=True)
class Results:
    """What came of one run's measured requests.

    Attributes:
        duration: Seconds from the first measured request's due time to the last one's end.
        completed: Measured requests that ended well.
        failed: Those that did not.
        unfinished: Those that were interrupted.
        errors: The failed ones by gRPC status.
        prompt_tokens: Prompt tokens of the completed ones, by the server's count.
        cached_tokens: Those of them that were not computed again, by the server's count.
        completion_tokens: Tokens that came, counted at the client.
        output_throughput: Tokens a second that came in `duration`, on all streams. None if
            nothing was measured.
        request_throughput: Completed measured requests over `duration`.
        ttft_ms: From a request's due time to its first token.
        itl_ms: From each token of a stream to the next.
        tpot_ms: Mean of a stream's gaps, one value a completed request.
        e2el_ms: From a request's due time to its end, completed ones.
        queue_ms: From its arrival at the server to its first computation, by the server's clock.
        prefill_ms: From there to the first token, by the server's clock.
        send_delay_ms: From a request's due time until it was really sent: the load
            generator's own lateness, which is part of ttft and e2el.
    """

    duration: float
    completed: int
    failed: int
    unfinished: int
    errors: dict[str, Failures]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    output_throughput: float | None
    request_throughput: float | None
    ttft_ms: Spread | None
    itl_ms: Spread | None
    tpot_ms: Spread | None
    e2el_ms: Spread | None
    queue_ms: Spread | None
    prefill_ms: Spread | None
    send_delay_ms: Spread | None


def summarize(exchanges: Sequence[Exchange], *, end: float) -> Results:
    """Computes the figures.

    Args:
        exchanges: All of a run: the tokens of warm-up and fillers count in `output_throughput`,
            since the server made them while it was measured, and nowhere else.
        end: When the last measured request ended, or the run was interrupted.
    """
    measured = [e for e in exchanges if e.phase is Phase.MEASURED]
    begin = min((e.due for e in measured), default=end)
    duration = end - begin
    completed = [e for e in measured if e.completed]
    tokens = sum(e.tokens_between(begin, end) for e in exchanges)
    summaries = [e.summary for e in completed if e.summary is not None]
    return Results(
        duration=duration,
        completed=len(completed),
        failed=sum(bool(e.status) and not e.completed for e in measured),
        unfinished=sum(not e.status for e in measured),
        errors=_errors(measured),
        prompt_tokens=sum(s.usage.prompt_tokens for s in summaries),
        cached_tokens=sum(s.usage.cached_tokens for s in summaries),
        completion_tokens=sum(e.tokens for e in measured),
        output_throughput=tokens / duration if duration > 0 else None,
        request_throughput=len(completed) / duration if duration > 0 else None,
        ttft_ms=spread_ms(e.arrivals[0] - e.due for e in measured if e.arrivals),
        itl_ms=spread_ms(gap for e in measured for gap in e.gaps()),
        tpot_ms=spread_ms(
            (e.arrivals[-1] - e.arrivals[0]) / (e.tokens - 1) for e in completed if e.tokens > 1
        ),
        e2el_ms=spread_ms(e.ended - e.due for e in completed if e.ended is not None),
        queue_ms=spread_ms(s.timings.queue_seconds for s in summaries),
        prefill_ms=spread_ms(s.timings.prefill_seconds for s in summaries),
        send_delay_ms=spread_ms(e.sent - e.due for e in measured),
    )


def _errors(exchanges: Iterable[Exchange]) -> dict[str, Failures]:
    errors: dict[str, Failures] = {}
    for e in exchanges:
        if e.status and not e.completed:
            before = errors.get(e.status, Failures(0, e.details))
            errors[e.status] = Failures(before.count + 1, before.first)
    return errors


def spread_ms(seconds: Iterable[float]) -> Spread | None:
    """Returns how some times in seconds are distributed, in milliseconds; None of none."""
    values = sorted(seconds)
    if not values:
        return None
    return Spread(
        len(values),
        *(
            1000 * value
            for value in (
                math.fsum(values) / len(values),
                percentile(values, 50),
                percentile(values, 90),
                percentile(values, 99),
                values[-1],
            )
        ),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Returns a percentile of values in ascending order, at least one.

    Between two values it is interpolated linearly, as numpy does by default.
    """
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
