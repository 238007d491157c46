"""Who may come in: the bounded queue, whom it is full of, and whose deadline it cannot meet.

Knows: requests that run or wait, parties, the forecast. Does not know: the engine, threads.
"""

from __future__ import annotations

import time
from collections import Counter

from nextok_server import current_call
from nextok_server.errors import DeadlineTooShort, QueueFull, QueueTooLong
from nextok_server.forecast import Forecast
from nextok_server.streams import Admission


class Room:
    """The requests that run or wait.

    Args:
        slots: How many are computed at the same time.
        max_queue: How many may wait besides.
        forecast: How long they take.
    """

    def __init__(self, slots: int, max_queue: int, forecast: Forecast) -> None:
        self._slots = slots
        self._limit = slots + max_queue
        self._forecast = forecast
        # In the order in which they came.
        self._admissions: dict[Admission, None] = {}

    def __len__(self) -> int:
        return len(self._admissions)

    def enter(self) -> Admission:
        """Takes in a request of the call that is being handled, for which `check` found room."""
        admission = Admission()
        self._admissions[admission] = None
        return admission

    def leave(self, admission: Admission) -> None:
        """Forgets a request. Safe to repeat."""
        self._admissions.pop(admission, None)

    def check(self, tokens: int) -> Admission | None:
        """Whether a request of the call that is being handled may come in.

        Args:
            tokens: That it is sure to draw, at least.

        Returns:
            Whose request would have to go: where the queue is full, the last of the party that has
            the most waiting, so that nobody keeps others out by filling it.

        Raises:
            QueueFull: There is no room, and nobody has more waiting than the caller would have.
            QueueTooLong: It would not end in time because of those who wait before it.
            DeadlineTooShort: It would not end in time however little there is to do.
        """
        if len(self._admissions) < self._slots:
            self._check_deadline(0.0, self._forecast.run(tokens, crowded=False))
            return None
        waiting = [admission for admission in self._admissions if admission.waits]
        # Some of them may be about to start: slots are free until a step has begun.
        starting = len(waiting) - (len(self._admissions) - self._slots)
        del waiting[: max(0, starting)]
        counts = Counter(admission.party for admission in waiting)
        own = counts.pop(current_call.party.get(), 0)
        # Parties take turns, so that of others no more go before it than its own do.
        ahead = own + sum(min(count, own) for count in counts.values())
        self._check_deadline(self._forecast.wait(ahead), self._forecast.run(tokens, crowded=True))
        if len(self._admissions) < self._limit:
            return None
        party, most = max(counts.items(), key=lambda item: item[1], default=("", 0))
        if most <= own + 1:
            raise self.full()
        return next(admission for admission in reversed(waiting) if admission.party == party)

    def full(self) -> QueueFull:
        """Says that there is no room, and when there may be."""
        waiting = len(self._admissions) - self._slots
        return QueueFull(waiting, self._forecast.delay(waiting))

    @staticmethod
    def _check_deadline(wait: float, run: float) -> None:
        deadline = current_call.deadline.get()
        if deadline is None:
            return
        left = deadline - time.monotonic()
        if run > left:
            raise DeadlineTooShort(run, left)
        if wait + run > left:
            raise QueueTooLong(wait, left, wait + run - left)
