"""Compiles constraints on trial, in a process of its own: `python -m` this module.

Knows: how constraints are compiled, and how to be ended by the system when it takes too much. Does
not know: who asks.

Forms come in on stdin and verdicts go out on stdout, a JSON object a line each. A form that takes
more time, memory or stack than it may ends the process; who asks learns the reason from how.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import threading
from pathlib import Path

from nextok_server.constraints import TokenMatcher, Vocabulary
from nextok_server.errors import InvalidRequest
from nextok_server.matching import Form
from nextok_server.tokenizer import Tokenizer

_MEMORY_BYTES = 1 << 30
# Of the thread that compiles: half of what the server's threads have, so that what gets by here
# gets by there.
_STACK_BYTES = 4 << 20
# Tokens of a text that is tried too: some grammars are small and fail on what they match.
_STEPS = 16


def main(tokenizer: Path, size: int, seconds: float) -> None:
    """Answers until stdin ends."""
    vocabulary = Vocabulary(Tokenizer.from_file(tokenizer), size)
    _limit_memory()
    threading.stack_size(_STACK_BYTES)
    for line in sys.stdin:
        form = json.loads(line)
        problems: list[str | None] = []
        arguments = (vocabulary, Form(form["kind"], tuple(form["texts"])), problems)
        thread = threading.Thread(target=_try, args=arguments)
        # Processor time: how busy the machine is does not matter. The signal ends the process.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        thread.start()
        thread.join()
        signal.setitimer(signal.ITIMER_PROF, 0)
        problem = problems[0] if problems else "is more than the compiler can deal with"
        sys.stdout.write(json.dumps({"problem": problem}) + "\n")
        sys.stdout.flush()


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # others do not tell what is in use, or do not keep the limit
        in_use = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (in_use + _MEMORY_BYTES, in_use + _MEMORY_BYTES))


def _try(vocabulary: Vocabulary, form: Form, problems: list[str | None]) -> None:
    """Compiles a form and adds what is wrong with it, or None."""
    try:
        _walk(vocabulary.compile(form, ()).start())
    except InvalidRequest as error:
        problems.append(error.description)
    else:
        problems.append(None)


def _walk(matcher: TokenMatcher) -> None:
    """Matches some text of the form."""
    choice = random.Random(0)
    for _ in range(_STEPS):
        allowed = matcher.mask().allowed.nonzero()[0]
        if matcher.complete or not len(allowed):
            return
        matcher.take(int(allowed[choice.randrange(len(allowed))]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
