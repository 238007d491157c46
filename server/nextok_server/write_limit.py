"""How long a message may be left unread, with one timer for the messages of all calls.

Knows: tasks of the event loop. Does not know: gRPC, what is written.

A timer for each message costs a tenth of what the loop does under load.
"""

from __future__ import annotations

import asyncio


class Writing:
    """A message on its way out, written by the current task.

    Attributes:
        ends_at: When it is given up, on the loop's clock.
        task: That writes it.
    """

    __slots__ = ("_cancelled_before", "_given_up", "ends_at", "task")

    def __init__(self, ends_at: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.ends_at = ends_at
        self.task = task
        self._cancelled_before = task.cancelling()
        self._given_up = False

    def give_up(self) -> None:
        """Cancels the task, which then asks `was_given_up`."""
        self._given_up = True
        self.task.cancel()

    def was_given_up(self) -> bool:
        """Whether a cancellation that was caught here is this one alone; takes it back."""
        return self._given_up and self.task.uncancel() <= self._cancelled_before


class WriteLimit:
    """Gives up what takes too long.

    Args:
        seconds: That a message may take.

    Attributes:
        seconds: Likewise.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # In the order in which they began, and are given up in: all may take as long.
        self._writing: dict[Writing, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Writing:
        """Has the current task's next wait end in time. Every `begin` needs an `end`."""
        loop = asyncio.get_running_loop()
        writing = Writing(loop.time() + self.seconds)
        self._writing[writing] = None
        if self._timer is None:
            self._timer = loop.call_at(writing.ends_at, self._give_up_late)
        return writing

    def end(self, writing: Writing) -> None:
        """It was written, or will not be."""
        self._writing.pop(writing, None)

    def _give_up_late(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._writing:
            writing = next(iter(self._writing))
            if writing.ends_at > loop.time():
                self._timer = loop.call_at(writing.ends_at, self._give_up_late)
                return
            del self._writing[writing]
            writing.give_up()
