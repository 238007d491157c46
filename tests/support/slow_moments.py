"""When the machine itself was slow: a virtual one at times gets little from its host, or nothing.

What takes long then says nothing of a server. A process of the kernel's real-time class wakes up
every other moment and counts a little; nothing else that runs here delays it. Where it woke up
late, or took several times as long as it mostly does, twice in a row, the machine was slow. That
takes the right to the class (root has it); without, no such moment is seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

NAP_SECONDS = 0.002
LATE_SECONDS = 0.002
TIMES_AS_LONG = 3.0
COUNT = 200  # some 10 us


# From when to when, by time.monotonic().
Span = tuple[float, float]


@dataclass
class SlowMoments:
    """The moments, known once the watch has ended.

    Attributes:
        spans: Of each.
    """

    spans: list[Span] = field(default_factory=list)

    def judged(self, spans: Iterable[Span]) -> list[float]:
        """How long those were, in seconds, that none of the moments overlaps."""
        return [
            ended - began
            for began, ended in spans
            if not any(start < ended and began < end for start, end in self.spans)
        ]

    def p99(self, rounds: Iterable[Iterable[Span]]) -> float:
        """How long what is judged took at the 99th percentile: the median of the rounds."""
        judged = [found for spans in rounds if (found := self.judged(spans))]
        return statistics.median(
            # One by itself has no percentiles.
            statistics.quantiles(found * 2 if len(found) == 1 else found, n=100)[-1]
            for found in judged
        )

    @property
    def seconds(self) -> float:
        """How long they were, together."""
        return sum(end - start for start, end in self.spans)


@contextlib.contextmanager
def slow_moments() -> Iterator[SlowMoments]:
    """Watches while it is open."""
    found = SlowMoments()
    command = [sys.executable, __file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            process.stdout.readline()
            yield found
        finally:
            said, _ = process.communicate()
    found.spans = [(start, end) for start, end in json.loads(said or "[]")]


def spans_of(naps: list[tuple[float, float, float]]) -> list[Span]:
    """The slow ones, those next to each other as one; one by itself may be an interrupt.

    Args:
        naps: When each began, when it woke up, when it had counted, in seconds.
    """
    usual = statistics.median(counted - woke for _, woke, counted in naps)
    spans: list[Span] = []
    for began, woke, counted in naps:
        late = woke - began > NAP_SECONDS + LATE_SECONDS
        if not late and counted - woke <= TIMES_AS_LONG * usual:
            continue
        if spans and began - spans[-1][1] < NAP_SECONDS:
            spans[-1] = (spans[-1][0], counted)
        else:
            spans.append((began, counted))
    return [(start, end) for start, end in spans if end - start > NAP_SECONDS + LATE_SECONDS]


def main() -> None:
    """Watches until the input ends, then prints the spans."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):
        print("not allowed", flush=True)
        return
    print("watching", flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    naps = []
    while not ended.is_set():
        began = time.monotonic()
        time.sleep(NAP_SECONDS)
        woke = time.monotonic()
        for _ in range(COUNT):
            pass
        naps.append((began, woke, time.monotonic()))
    print(json.dumps(spans_of(naps)))


if __name__ == "__main__":
    main()
