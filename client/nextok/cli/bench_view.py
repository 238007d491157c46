"""A sweep for people: a table of its figures, and a line for each run that ends.

Knows rich, and which figures are shown. What they mean is in docs/bench.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from rich.table import Table

from nextok.bench.points import Point, percentile_of, points
from nextok.bench.report import Run
from nextok.bench.results import Results
from nextok.bench.settings import Settings
from nextok.cli import looks

_COLUMNS = 5  # points side by side; more of them go into another table
_SPREADS = {
    "ttft_ms": ("ttft, ms", ("p50", "p90", "p99")),
    "itl_ms": ("itl, ms", ("p50", "p90", "p99", "max")),
    "tpot_ms": ("tpot, ms", ("p50",)),
    "e2el_ms": ("e2el, ms", ("p50", "p99")),
    "queue_ms": ("queue, ms", ("p50", "p99")),
}
_COUNTS = {
    "requests": "completed",
    "failed": "failed",
    "prompt tokens": "prompt_tokens",
    "cached tokens": "cached_tokens",
    "completion tokens": "completion_tokens",
}
_MEGABYTE = 1e6


def load_of(settings: Settings) -> str:
    """Returns a run's settings as far as they are swept over, as in 8 streams, context 256."""
    if settings.streams is not None:
        text = "1 stream" if settings.streams == 1 else f"{settings.streams} streams"
    else:
        text = f"{settings.request_rate:g} requests/s"
    return text if settings.context is None else f"{text}, context {settings.context}"


def run_line(run: Run) -> str:
    """Returns what is told of a run as it ends."""
    results = run.results
    text = f"run {run.run} of {run.runs}, {load_of(run.settings)}: "
    text += f"{_number(results.output_throughput)} tokens/s, "
    text += f"ttft p50 {_number(percentile_of('ttft_ms', 'p50')(results))} ms, "
    text += f"itl p50 {_number(percentile_of('itl_ms', 'p50')(results))} ms"
    if results.failed:
        text += f", {results.failed} failed"
    return text if run.complete else f"{text}, interrupted"


def tables(runs: Sequence[Run]) -> Iterator[Table]:
    """Shows every point's figures, medians of its runs, a few points a table."""
    every = points(runs)
    for first in range(0, len(every), _COLUMNS):
        yield _table(every[first : first + _COLUMNS])


def notes(runs: Sequence[Run]) -> Iterator[str]:
    """Yields what a reader of the figures has to know besides."""
    if any(len(point.runs) > 1 for point in points(runs)):
        yield "Medians of the repeats, least to largest in brackets; requests and tokens of all."
    for run in runs:
        results = run.results
        if not run.complete:
            yield (
                f"INCOMPLETE: interrupted in run {run.run}, {load_of(run.settings)}, after "
                f"{results.completed + results.failed} of {run.settings.requests} requests."
            )
        for status, failures in results.errors.items():
            yield f"run {run.run}: {failures.count} x {status}: {looks.clean(failures.first)}"
    if runs and runs[-1].complete and runs[-1].run < runs[-1].runs:
        yield f"INCOMPLETE: interrupted after run {runs[-1].run} of {runs[-1].runs}."
    if any(run.results.cached_tokens and not run.settings.prefix_tokens for run in runs):
        yield (
            "Prompt tokens were kept from before though no prefix was shared: take another "
            "--seed, or --bypass-prefix-reuse."
        )


def _table(columns: Sequence[Point]) -> Table:
    table = Table()
    table.add_column(no_wrap=True)
    for point in columns:
        mark = "" if point.complete else "\nincomplete"
        table.add_column(load_of(point.settings).replace(", ", "\n") + mark, justify="right")

    def row(name: str, figure: Callable[[Results], float | None]) -> None:
        table.add_row(name, *[_number(point.median(figure)) for point in columns])

    table.add_row("tokens/s", *map(_throughput, columns))
    row("requests/s", lambda results: results.request_throughput)
    table.add_section()
    for name, (title, percentiles) in _SPREADS.items():
        for percentile in percentiles:
            row(f"{title} {percentile}", percentile_of(name, percentile))
    if any(point.settings.request_rate is not None for point in columns):
        row("sent late, ms p99", percentile_of("send_delay_ms", "p99"))
    table.add_section()
    for name, field in _COUNTS.items():
        totals = [sum(getattr(run.results, field) for run in point.runs) for point in columns]
        table.add_row(name, *map(str, totals))
    _resources(table, columns)
    return table


def _resources(table: Table, columns: Sequence[Point]) -> None:
    """Adds what the runs took; the last run of each point stands for its memory."""
    table.add_section()
    shares = [
        _number(
            run.resources.client_cpu_seconds / run.results.duration
            if run.results.duration > 0
            else None
        )
        for run in (point.runs[-1] for point in columns)
    ]
    table.add_row("client, cores", *shares)
    resident = [point.runs[-1].resources.server_rss_bytes for point in columns]
    if any(size is not None for size in resident):
        cells = [_number(None if size is None else size / _MEGABYTE) for size in resident]
        table.add_row("server memory, MB", *cells)


def _throughput(point: Point) -> str:
    values = point.values(lambda results: results.output_throughput)
    text = _number(statistics.median(values) if values else None)
    if len(values) > 1:
        text += f"\n({_number(min(values))} to {_number(max(values))})"
    return text


def _number(value: float | None) -> str:
    """Returns a number with three digits, or with all before the point; a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
