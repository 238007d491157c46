"""The measuring: all contenders in turn, scenario by scenario, round by round.

Knows: workers and scenarios. Does not know: what is done with the figures.

Everything runs once in every round, so that a slow quarter of an hour of the machine falls on all
alike; ratios are taken within a round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.job import Job, Outcome
from bench.progress import Progress
from bench.scenarios import Entry, Scenario
from bench.worker import Failed, Worker

Figures = dict[str, float]


class Rounds:
    """Runs rounds and collects what they yield.

    Args:
        scenarios: What to run.
        workers: Who runs it, by the contenders' names.
        failures: Why contenders are missing, by their names.
        vocabulary: Size of the model's.
        progress: Where to tell how it goes.

    Attributes:
        found: By scenario: a list with one dict a round, figures by entry.
        missing: By scenario: why entries have no figures.
    """

    def __init__(
        self,
        scenarios: tuple[Scenario, ...],
        workers: Mapping[str, Worker],
        failures: Mapping[str, str],
        vocabulary: int,
        progress: Progress,
    ) -> None:
        self._scenarios, self._workers, self._progress = scenarios, workers, progress
        self._vocabulary = vocabulary
        self.found: dict[str, list[dict[str, Figures]]] = {s.name: [] for s in scenarios}
        self.missing: dict[str, dict[str, str]] = {
            scenario.name: {
                entry.key: failures[entry.contender]
                for entry in scenario.entries
                if entry.contender in failures
            }
            for scenario in scenarios
        }

    def run(self, rounds: int, between: Callable[[], None]) -> None:
        """One round to warm up, then as many as are wanted and as there is time for.

        The first round is always run whole; later, a scenario for which no time is left is left
        out.

        Args:
            rounds: How many are wanted.
            between: Called before each round.
        """
        for number in range(rounds + 1):
            between()
            self._round(number, rounds)

    def _entries(self, scenario: Scenario) -> list[Entry]:
        return [e for e in scenario.entries if e.key not in self.missing[scenario.name]]

    def _due(self, number: int) -> list[Scenario]:
        return [scenario for scenario in self._scenarios if number <= scenario.rounds]

    def _work(self, number: int) -> list[tuple[str, str]]:
        return [(s.name, e.key) for s in self._due(number) for e in self._entries(s)]

    def _round(self, number: int, rounds: int) -> None:
        name = f"round {number} of {rounds}" if number else "warm-up"
        later = sum(self._progress.expect(self._work(n)) for n in range(number + 1, rounds + 1))
        todo = self._work(number)
        for scenario in self._due(number):
            work = [(scenario.name, entry.key) for entry in self._entries(scenario)]
            if number > 1 and not self._progress.fits(work):
                self._progress.say(f"no time for {name}, {scenario.about}")
                todo = todo[len(work) :]
                continue
            figures: dict[str, Figures] = {}
            reference: dict[str, Outcome] = {}
            for entry in self._entries(scenario):
                left = self._progress.expect(todo) + later if number else None
                todo = todo[1:]
                try:
                    figures[entry.key] = self._measure(scenario, entry, number, reference)
                except Failed as error:
                    self.missing[scenario.name][entry.key] = str(error)
                    self._progress.say(f"{name}, {scenario.about}: {entry.key} {error}", left)
                else:
                    shown = _shown(figures[entry.key])
                    self._progress.say(f"{name}, {scenario.about}: {entry.key} {shown}", left)
            if number:
                self.found[scenario.name].append(figures)

    def _measure(
        self, scenario: Scenario, entry: Entry, number: int, reference: dict[str, Outcome]
    ) -> Figures:
        """Runs an entry's jobs; the scenario's first entry becomes the reference."""
        start = self._progress.gone
        found: Figures = {}
        expected = 0.0
        for part, job in scenario.jobs(entry, number, self._vocabulary).items():
            outcome = self._workers[entry.contender].run(job)
            prefix = f"{part}_" if part else ""
            for key, value in outcome.figures(job).items():
                if key.startswith(scenario.figures):
                    found[prefix + key] = value
            if not job.temperature:
                first = reference.setdefault(part, outcome)
                found[f"{prefix}agreement"] = outcome.agreement(first)
            expected += _extrapolated(job, outcome, scenario.output_tokens)
        seconds = self._progress.gone - start if number else expected
        self._progress.learn(scenario.name, entry.key, seconds)
        return found


def _extrapolated(job: Job, outcome: Outcome, output_tokens: int) -> float:
    """Seconds that a job would have taken with more tokens."""
    first = max(stream[0] for stream in outcome.arrivals)
    last = max(stream[-1] for stream in outcome.arrivals)
    step = (last - first) / max(1, job.output_tokens - 1)
    return first + step * output_tokens


def _shown(figures: Figures) -> str:
    if "decode" in figures:
        return f"{figures['decode']:.0f} tokens/s"
    firsts = {key: value for key, value in figures.items() if key.endswith("first_token")}
    return ", ".join(f"{key} {1000 * value:.0f} ms" for key, value in firsts.items())


def settings(scenario: Scenario) -> dict[str, Any]:
    """A scenario as the results tell of it."""
    names = ("about", "streams", "prompt_tokens", "output_tokens", "temperature", "period")
    return {name: getattr(scenario, name) for name in (*names, "shared")}
