"""Repeated runs put together: one point for each setting that was measured.

Pure.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nextok.bench.report import Run
from nextok.bench.results import Results, Spread
from nextok.bench.settings import Settings


@dataclass(frozen=True, slots=True)
class Point:
    """The runs of one setting."""

    settings: Settings
    runs: tuple[Run, ...]

    @property
    def complete(self) -> bool:
        """Whether no run was interrupted."""
        return all(run.complete for run in self.runs)

    def values(self, figure: Callable[[Results], float | None]) -> list[float]:
        """Returns a figure of each run that has it."""
        found = [figure(run.results) for run in self.runs]
        return [value for value in found if value is not None]

    def median(self, figure: Callable[[Results], float | None]) -> float | None:
        """Returns the median over the runs; None if no run has the figure."""
        values = self.values(figure)
        return statistics.median(values) if values else None


def points(runs: Iterable[Run]) -> list[Point]:
    """Groups runs by their settings, in the order of the first run of each."""
    groups: dict[Settings, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.settings, []).append(run)
    return [Point(settings, tuple(group)) for settings, group in groups.items()]


def percentile_of(name: str, percentile: str) -> Callable[[Results], float | None]:
    """Returns what reads one percentile of a distribution, such as p90 of ttft_ms."""

    def read(results: Results) -> float | None:
        spread: Spread | None = getattr(results, name)
        return None if spread is None else getattr(spread, percentile)

    return read


def check_comparable(runs: Sequence[Run]) -> None:
    """Makes sure that runs are of one server, and differ in nothing but what can be swept over.

    Raises:
        ValueError: They are not; the text names what differs.
    """
    if len({run.server for run in runs}) > 1:
        raise ValueError("the runs are of different servers")
    for field in dataclasses.fields(Settings):
        if field.name in ("streams", "request_rate", "context", "requests", "warmup"):
            continue
        found = {
            getattr(run.settings, field.name)
            for run in runs
            if field.name != "prompt_tokens" or run.settings.context is None
        }
        if len(found) > 1:
            shown = " and ".join(sorted(map(str, found)))
            raise ValueError(f"the runs have different {field.name}: {shown}")
