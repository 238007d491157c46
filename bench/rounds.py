"""The measuring: all contenders in turn, scenario by scenario, round by round.

Knows: workers and scenarios. Does not know: what is done with the figures.

Everything runs in every round, so that a slow quarter of an hour of the machine falls on all alike.
Ratios are taken within a go: every contender does the work once, one after the other. Some have
several goes in a round.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        found: By scenario: a list of rounds, each a list of goes, each the figures by entry.
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
        self.found: dict[str, list[list[dict[str, Figures]]]] = {s.name: [] for s in scenarios}
        self.missing: dict[str, dict[str, str]] = {
            scenario.name: {
                entry.key: failures[entry.contender]
                for entry in scenario.entries
                if entry.contender in failures
            }
            for scenario in scenarios
        }

    def run(self, rounds: int) -> None:
        """One round to warm up, then as many as are wanted and as there is time for.

        The first round is always run whole; later, a scenario for which no time is left is left
        out.

        Args:
            rounds: How many are wanted.
        """
        for number in range(rounds + 1):
            self._round(number, rounds)

    def _goes(self, scenario: Scenario, number: int) -> list[list[Entry]]:
        """Who takes part in each go of a round; the one to warm up has a single go."""
        entries = [e for e in scenario.entries if e.key not in self.missing[scenario.name]]
        goes = max((entry.goes for entry in entries), default=0) if number else 1
        return [[entry for entry in entries if entry.goes > go] for go in range(goes)]

    def _due(self, number: int) -> list[Scenario]:
        return [scenario for scenario in self._scenarios if number <= scenario.rounds]

    def _work(self, number: int) -> list[tuple[str, str]]:
        return [work for s in self._due(number) for work in self._work_of(s, number)]

    def _work_of(self, scenario: Scenario, number: int) -> list[tuple[str, str]]:
        return [(scenario.name, e.key) for go in self._goes(scenario, number) for e in go]

    def _round(self, number: int, rounds: int) -> None:
        name = _name(number)
        later = sum(self._progress.expect(self._work(n)) for n in range(number + 1, rounds + 1))
        todo = self._work(number)
        for scenario in self._due(number):
            work = self._work_of(scenario, number)
            if number > 1 and not self._progress.fits(work):
                self._progress.say(f"no time for {name}, {scenario.about}")
                del todo[: len(work)]
                continue
            goes = [
                self._go(scenario, entries, number, go, todo, later)
                for go, entries in enumerate(self._goes(scenario, number))
            ]
            if number:
                self.found[scenario.name].append(goes)

    def _go(
        self,
        scenario: Scenario,
        entries: list[Entry],
        number: int,
        go: int,
        todo: list[tuple[str, str]],
        later: float,
    ) -> dict[str, Figures]:
        """Every entry does the work once.

        Args:
            scenario: The work.
            entries: Who takes part.
            number: Of the round.
            go: Which of the round's.
            todo: What is left of the round; what is done is taken out.
            later: Seconds that the rounds after this one will take.
        """
        name = _name(number)
        figures: dict[str, Figures] = {}
        reference: dict[str, Outcome] = {}
        for entry in entries:
            left = self._progress.expect(todo) + later if number else None
            del todo[0]
            if entry.key in self.missing[scenario.name]:
                continue  # it failed in an earlier go
            try:
                figures[entry.key] = self._measure(scenario, entry, number, go, reference)
            except Failed as error:
                self.missing[scenario.name][entry.key] = str(error)
                self._progress.say(f"{name}, {scenario.about}: {entry.key} {error}", left)
            else:
                shown = _shown(figures[entry.key])
                self._progress.say(f"{name}, {scenario.about}: {entry.key} {shown}", left)
        return figures

    def _measure(
        self,
        scenario: Scenario,
        entry: Entry,
        number: int,
        go: int,
        reference: dict[str, Outcome],
    ) -> Figures:
        """Runs an entry's jobs; a round's first entry becomes the reference."""
        start = self._progress.gone
        found: Figures = {}
        expected = 0.0
        for part, job in scenario.jobs(entry, number, go, self._vocabulary).items():
            outcome = self._workers[entry.contender].run(job)
            prefix = f"{part}_" if part else ""
            for key, value in outcome.figures(job).items():
                if key.startswith(scenario.figures):
                    found[prefix + key] = value
            if not job.temperature and not go:
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


def _name(number: int) -> str:
    """A round's, for people."""
    return f"round {number}" if number else "warm-up"


def _shown(figures: Figures) -> str:
    if "decode" in figures:
        return f"{figures['decode']:.0f} tokens/s"
    firsts = {key: value for key, value in figures.items() if key.endswith("first_token")}
    return ", ".join(f"{key} {1000 * value:.0f} ms" for key, value in firsts.items())


def settings(scenario: Scenario) -> dict[str, Any]:
    """A scenario as the results tell of it."""
    names = ("about", "streams", "prompt_tokens", "output_tokens", "temperature", "period")
    return {name: getattr(scenario, name) for name in (*names, "shared")}
