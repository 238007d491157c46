"""Where the call that is being handled tells how many tokens were computed for it.

Knows nothing: it stands between who counts (`quotas`) and who computes (`runner`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar


def _nobody_counts(_tokens: int) -> None:
    """Outside of a call, as in tests of the engine."""


spending: ContextVar[Callable[[int], None]] = ContextVar("spending", default=_nobody_counts)
