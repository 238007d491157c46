"""Lines that tell what runs, for how long it has, and how much longer it will.

Knows: time. Does not know: what is measured.
"""

from __future__ import annotations

import time


class Progress:
    """Prints, and estimates.

    Args:
        since: When everything began, in seconds of `time.time()`.
        minutes: How long it may take; None: as long as it takes.
    """

    def __init__(self, since: float, minutes: float | None) -> None:
        self._since = since
        self._limit = float("inf") if minutes is None else 60 * minutes
        self._estimates: dict[tuple[str, str], float] = {}

    @property
    def gone(self) -> float:
        """Seconds since everything began."""
        return time.time() - self._since

    def learn(self, scenario: str, entry: str, seconds: float) -> None:
        """Takes note of how long an entry took, or will take, in a scenario."""
        self._estimates[scenario, entry] = seconds

    def expect(self, work: list[tuple[str, str]]) -> float:
        """Seconds that some work will take."""
        return sum(self._estimates.get(each, 0.0) for each in work)

    def fits(self, work: list[tuple[str, str]]) -> bool:
        """Whether some work can be done in what is left of the time."""
        return self.gone + self.expect(work) < self._limit

    def say(self, text: str, left: float | None = None) -> None:
        """Prints a line with the time that is gone and, where it is known, what is left."""
        about = ""
        if left is not None:
            about = f", {_clock(min(left, max(0.0, self._limit - self.gone)))} left"
        print(f"[{_clock(self.gone)}{about}] {text}", flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
