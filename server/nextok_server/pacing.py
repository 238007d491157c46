"""How often a stream's reader hears of it.

Knows: how many streams run, the time. Does not know: what steps tell, the event loop.

A message costs the server and the client some 0.9 ms of processor time together where one stream
runs, for the model's weights have thrown everything else out of the caches by then, and half of
that where many do. That is taken from the cores that compute, however many steps it holds. So
steps that follow each other closely share a message.
"""

from __future__ import annotations

from nextok_server.events import Event, Step, is_end
from nextok_server.sequence import Sequence

# Parts of the longest interval that a stream waits for being there and for each that runs: one of
# them is told after 0.225 of it, by default 30 times a second, 32 after the whole.
_PART_AT_LEAST, _PART_A_STREAM = 0.2, 0.025
# Readers that began together are told at different times.
_PHASES = 8


class Pacing:
    """Holds steps back until there are several to tell. For one thread.

    Args:
        interval: Seconds between a stream's messages where many run; 0 holds nothing back.
    """

    def __init__(self, interval: float) -> None:
        self._most = interval

    def due(
        self, events: list[tuple[Sequence, list[Event]]], now: float, streams: int = 0
    ) -> list[tuple[Sequence, list[Event]]]:
        """What is to be told now of what became known in a step; the rest is kept.

        Nothing is kept of a sequence that ends or pauses, nor its first step, nor anything but
        steps: only what the next step will tell with its own.

        Args:
            events: By sequence.
            now: `time.monotonic()`.
            streams: How many run, if more than there are events of.
        """
        streams = max(streams, len(events))
        interval = self._most * min(1.0, _PART_AT_LEAST + _PART_A_STREAM * streams)
        told = []
        for sequence, produced in events:
            if not produced:
                continue
            all_of_it = sequence.held + produced
            last = produced[-1]
            is_due = now >= sequence.tell_at or sequence.paused
            if is_due or is_end(last) or not isinstance(last, Step):
                phase = 1.0 if sequence.tell_at else (1 + sequence.slot % _PHASES) / _PHASES
                sequence.tell_at = now + interval * phase
                sequence.held = []
                told.append((sequence, all_of_it))
            else:
                sequence.held = all_of_it
        return told
