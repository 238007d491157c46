"""Pictures of a sweep, as SVG files.

The only place that knows matplotlib, which comes with the extra `bench`. No window, no global
state, and nothing in a file that changes from one drawing to the next.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nextok.bench.axes import CONTEXT, Axis, swept_over
from nextok.bench.points import Point, percentile_of, points
from nextok.bench.report import Run
from nextok.bench.results import Results

_PERCENTILES: Final = {"p50": "-", "p90": "--", "p99": ":"}
_LATENCIES: Final = {
    "ttft_ms": "time to first token, ms",
    "itl_ms": "gap between tokens (itl), ms",
}
# Any: matplotlib types the keys as a literal of every setting that there is.
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nextok",  # ids are the same every time
    "text.parse_math": False,  # a name is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}

_Figure = Callable[[Results], float | None]


@dataclass(frozen=True)
class _Look:
    """A curve's look. `figure` and `label` make its id in the SVG."""

    figure: str
    label: str
    colour: str
    line: str


def write_plots(runs: Iterable[Run], folder: Path) -> list[Path]:
    """Draws what was swept over: throughput and latency against load, latency against context.

    Args:
        runs: The runs; of repeats, the median is drawn, with the range.
        folder: Where to write; made if it is not there.

    Returns:
        The files; none where nothing was swept over.

    Raises:
        OSError: The folder cannot be written to.
    """
    every = points(runs)
    figures: dict[str, Figure] = {}
    with matplotlib.rc_context(_STYLE):
        for axis in swept_over(point.settings for point in every):
            if axis is not CONTEXT:
                figures[f"throughput_by_{axis.name}"] = _throughput(axis, every)
            figures[f"latency_by_{axis.name}"] = _latency(axis, every)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{name}.svg" for name in figures]
        for file, figure in zip(files, figures.values(), strict=True):
            figure.savefig(file, format="svg", metadata={"Date": None})
    return files


def _throughput(axis: Axis, every: Sequence[Point]) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    groups = _series(axis, every)
    for number, (label, series) in enumerate(groups.items()):
        look = _Look("output_throughput", label, colour=f"C{number}", line="-")
        _curve(axes, axis, series, _output_throughput, look)
    _finish(axes, axis, legend=len(groups) > 1)
    axes.set_ylabel("tokens a second, all streams")
    axes.set_ylim(bottom=0)
    figure.suptitle(_title(every))
    return figure


def _latency(axis: Axis, every: Sequence[Point]) -> Figure:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for place, (latency, ylabel) in enumerate(_LATENCIES.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        for number, (label, series) in enumerate(_series(axis, every).items()):
            for percentile, line in _PERCENTILES.items():
                shown = f"{percentile}, {label}" if label else percentile
                look = _Look(latency, shown, colour=f"C{number}", line=line)
                _curve(axes, axis, series, percentile_of(latency, percentile), look)
        _finish(axes, axis, legend=True)
        axes.set_ylabel(ylabel)
        axes.set_ylim(bottom=0)
    figure.suptitle(_title(every))
    return figure


def _series(axis: Axis, every: Sequence[Point]) -> dict[str, list[Point]]:
    """Groups the points of an axis by what else was swept over; the label says its value."""
    ours = [point for point in every if axis.value(point.settings) is not None]
    others = [other for other in swept_over(p.settings for p in ours) if other is not axis]
    groups: dict[str, list[Point]] = {}
    for point in sorted(ours, key=lambda point: axis.value(point.settings) or 0):
        label = ", ".join(f"{other.value(point.settings):g} {other.label}" for other in others)
        groups.setdefault(label, []).append(point)
    return groups


def _curve(
    axes: Axes, axis: Axis, series: Sequence[Point], figure_of: _Figure, look: _Look
) -> None:
    """Draws medians as a line, and the range of repeats as bars."""
    drawn = [point for point in series if point.values(figure_of)]
    x = [axis.value(point.settings) or 0.0 for point in drawn]
    values = [point.values(figure_of) for point in drawn]
    y = [statistics.median(v) for v in values]
    (curve,) = axes.plot(
        x, y, look.line, marker="o", markersize=4, color=look.colour, label=look.label
    )
    curve.set_gid("-".join([look.figure, *look.label.replace(",", "").split()]))
    axes.vlines(
        x, [min(v) for v in values], [max(v) for v in values], colors=look.colour, alpha=0.4
    )


def _finish(axes: Axes, axis: Axis, *, legend: bool) -> None:
    axes.set_xlabel(axis.label)
    if axis.logarithmic:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlim(left=0)
    if legend:
        axes.legend()


def _output_throughput(results: Results) -> float | None:
    return results.output_throughput


def _title(every: Sequence[Point]) -> str:
    run = every[0].runs[0]
    server, settings = run.server, run.settings
    prompt = "" if settings.context is not None else f"prompts of {settings.prompt_tokens}, "
    text = f"{server.name}, {server.precision}, {server.threads} threads: {prompt}"
    text += f"outputs of {settings.output_tokens} tokens"
    return text if all(point.complete for point in every) else f"{text} (incomplete)"
