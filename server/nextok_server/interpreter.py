"""Who has the interpreter where the engine's thread and the event loop both want it.

Knows Python's switch interval: how long a thread that wants the interpreter waits until it is taken
from the one that has it. Does not know what either of them does.

While the engine's thread reads what the model computed, all cores wait for it; what the event loop
does can be done while the model computes. The interval is one for the whole process, and a thread
that begins to wait goes by what it is then: so it is set by whoever has the interpreter.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

_WANTED_BACK_SECONDS = 0.00002
_KEPT_SECONDS = 0.005  # Python's own


@contextlib.contextmanager
def lent() -> Iterator[None]:
    """Around a call that does without the interpreter, on the thread that comes first.

    It is there again at once after the call, and the thread keeps it until the next one.
    """
    sys.setswitchinterval(_WANTED_BACK_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(_KEPT_SECONDS)
