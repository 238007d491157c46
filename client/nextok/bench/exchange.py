"""One request as its client saw it: when it was due, what came when, how it ended.

Knows no gRPC: times are seconds of one clock, whichever it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextok.bench.plan import Phase
from nextok.values import GenerateSummary

OK = "OK"


@dataclass(slots=True)
class Exchange:
    """One request and what came of it so far.

    Attributes:
        phase: What it is there for.
        due: When it should have been sent: its arrival in an open loop, the moment that its
            stream was free in a closed one. Latencies count from here.
        sent: When it was.
        arrivals: When each message with steps came.
        counts: How many steps, which are tokens, each of them had.
        ended: When the stream ended; None before that.
        status: How: OK, or the name of a gRPC status; "" before that.
        details: What was said about a failure.
        retry_after: Seconds after which trying again can help, if the server told.
        summary: The server's own counts and times; None unless the stream ended well.
    """

    phase: Phase
    due: float
    sent: float
    arrivals: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    ended: float | None = None
    status: str = ""
    details: str = ""
    retry_after: float | None = None
    summary: GenerateSummary | None = None

    @property
    def completed(self) -> bool:
        """Whether it ended well."""
        return self.status == OK

    @property
    def tokens(self) -> int:
        """Tokens that came."""
        return sum(self.counts)

    def tokens_between(self, begin: float, end: float) -> int:
        """Tokens that came after `begin`, up to `end`."""
        pairs = zip(self.arrivals, self.counts, strict=True)
        return sum(count for arrival, count in pairs if begin < arrival <= end)

    def gaps(self) -> list[float]:
        """Seconds from each token to the next; 0 between those that shared a message."""
        gaps: list[float] = []
        previous: float | None = None
        for arrival, count in zip(self.arrivals, self.counts, strict=True):
            if previous is not None:
                gaps.append(arrival - previous)
            gaps += [0.0] * (count - 1)
            previous = arrival
        return gaps
