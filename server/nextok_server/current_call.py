"""What those who compute need to know of the call that is being handled.

Knows nothing itself: it stands between who finds it out (`access`, `quotas`, `boundary`) and who
uses it (`runner`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar


def _nobody_counts(_tokens: int) -> float:
    """Outside of a call, as in tests of the engine."""
    return 0.0


def _nobody_traces(
    _name: str, _began: float, _ended: float, _attributes: Mapping[str, str | int]
) -> None:
    """Where no traces are asked for."""


# Who makes it: a name, or the host that it comes from.
caller: ContextVar[str] = ContextVar("caller", default="")
# Whom slots are shared out to: the same name, or the connection that it comes over, since several
# clients may be on one host.
party: ContextVar[str] = ContextVar("party", default="")
# Takes the number of tokens that were computed for it; returns the seconds after which its caller
# has any left.
spending: ContextVar[Callable[[int], float]] = ContextVar("spending", default=_nobody_counts)
# When it has to have ended, by time.monotonic(); None: at no time.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
# Takes a phase that it went through: name, begin and end by time.monotonic(), attributes.
trace: ContextVar[Callable[[str, float, float, Mapping[str, str | int]], None]] = ContextVar(
    "trace", default=_nobody_traces
)
