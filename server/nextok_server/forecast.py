"""How long a request will take, judged by those that ended lately.

Knows: what was measured. Does not know: who asks, what a request is.
"""

from __future__ import annotations

import random

from nextok_server.tally import Tally

# How much one request counts among those before it.
_WEIGHT = 0.1
# Bounds of what a client is told to wait, in seconds, and how much at random it differs, so that
# those who were refused together do not come back together.
_LEAST_DELAY, _MOST_DELAY = 0.1, 30.0
_SPREAD = 0.25


class Forecast:
    """Expects nothing to take any time before the first request has ended.

    Args:
        slots: Requests that run at the same time.
        tally: Has the duration of steps.
    """

    def __init__(self, slots: int, tally: Tally) -> None:
        self._slots = slots
        self._tally = tally
        self._request_seconds = 0.0

    def note(self, seconds: float) -> None:
        """Takes in how long a request ran."""
        before = self._request_seconds or seconds
        self._request_seconds = before + _WEIGHT * (seconds - before)

    def wait(self, ahead: int) -> float:
        """Seconds until a slot is free for a request, where all are taken.

        Args:
            ahead: Requests that go before it.
        """
        return (ahead + 1) * self._request_seconds / self._slots

    def run(self, tokens: int, *, crowded: bool) -> float:
        """Seconds that so many tokens take: as lately, or at best where slots are free."""
        tally = self._tally
        return tokens * (tally.decode_seconds if crowded else tally.fastest_decode_seconds)

    def delay(self, waiting: int) -> float:
        """Seconds after which it makes sense to ask again: when half of the queue is through."""
        seconds = self.wait(waiting // 2) * random.uniform(1 - _SPREAD, 1 + _SPREAD)
        return min(max(seconds, _LEAST_DELAY), _MOST_DELAY)
