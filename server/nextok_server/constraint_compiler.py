"""Constraints of requests, compiled without harm to others.

Knows: threads, the process that compiles on trial, how long that may take. Does not know: the
library that matches, the engine, the wire.

A few bytes of grammar can ask for gigabytes, minutes, or a stack without end, and no limit of the
library's prevents all of it. So each form is compiled by another process first, which the system
ends when it takes too much, and only then here, on a thread of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import select
import signal
import subprocess
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from nextok_server.errors import InvalidRequest, NotOffered
from nextok_server.matching import Form, Grammar
from nextok_server.tokenizer import Tokenizer

if TYPE_CHECKING:
    from nextok_server.constraints import Vocabulary

_LIBRARY = "llguidance"
_KEPT_VERDICTS = 64
# Where the processor is shared, seconds of its time take longer; and the process has to start.
_PATIENCE = 10.0
_START_SECONDS = 30.0


def is_offered() -> bool:
    """Whether the library that constraints need is installed."""
    return importlib.util.find_spec(_LIBRARY) is not None


class ConstraintCompiler:
    """Compiles forms, one at a time, off the event loop. Nothing is loaded before the first.

    Args:
        tokenizer: Has each token's bytes.
        tokenizer_path: Where it was loaded from.
        vocabulary_size: Tokens that the model has.
        seconds: Of processor time that a form may take.
    """

    def __init__(
        self, tokenizer: Tokenizer, tokenizer_path: Path, vocabulary_size: int, seconds: float
    ) -> None:
        self._tokenizer = tokenizer
        self._size = vocabulary_size
        self._trial = _Trial(tokenizer_path, vocabulary_size, seconds)
        self._vocabulary: Vocabulary | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nextok-constraints")

    async def compile(self, form: Form, end_ids: Iterable[int]) -> Grammar:
        """Compiles a form.

        Args:
            form: What a completion has to keep to.
            end_ids: Tokens that end it where the form may end.

        Raises:
            InvalidRequest: It is no form of its kind, or takes too much.
            NotOffered: The library is not installed.
        """
        if not is_offered():
            raise NotOffered(
                "constraint: this server has no constrained generation; whoever runs it can "
                "install it with pip install 'nextok[grammar]'"
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._compile, form, tuple(end_ids))

    def _compile(self, form: Form, end_ids: tuple[int, ...]) -> Grammar:
        if problem := self._trial.problem(form):
            raise InvalidRequest(f"constraint.{form.kind}", problem)
        if self._vocabulary is None:
            # Imported here, for it may not be installed.
            from nextok_server.constraints import Vocabulary

            self._vocabulary = Vocabulary(self._tokenizer, self._size)
        return self._vocabulary.compile(form, end_ids)


class _Trial:
    """The process that compiles on trial, started when there is something to try."""

    def __init__(self, tokenizer_path: Path, vocabulary_size: int, seconds: float) -> None:
        self._arguments = (str(tokenizer_path), str(vocabulary_size), str(seconds))
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._verdicts: OrderedDict[Form, str | None] = OrderedDict()

    def problem(self, form: Form) -> str | None:
        """What is wrong with a form; None where nothing is."""
        if form in self._verdicts:
            self._verdicts.move_to_end(form)
            return self._verdicts[form]
        verdict = self._verdicts[form] = self._try(form)
        if len(self._verdicts) > _KEPT_VERDICTS:
            self._verdicts.popitem(last=False)
        return verdict

    def _try(self, form: Form) -> str | None:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        question = json.dumps({"kind": form.kind, "texts": form.texts}) + "\n"
        try:
            process.stdin.write(question.encode())
            process.stdin.flush()
            patience = self._seconds * _PATIENCE + _START_SECONDS
            ready, _, _ = select.select([process.stdout], [], [], patience)
            answer = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            answer = b""
        if answer.endswith(b"\n"):
            verdict: str | None = json.loads(answer)["problem"]
            return verdict
        self._process = None
        return self._reason(_end(process))

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "nextok_server.constraint_trial", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in a terminal is for the server, which ends this one.
            start_new_session=True,
        )
        weakref.finalize(self, _end, process)
        return process

    def _reason(self, status: int) -> str:
        """Why the process ended while it tried."""
        if status == -signal.SIGSEGV:
            return "is nested too deeply, or defined in too many steps"
        if status == -signal.SIGABRT:
            return "takes too much memory to compile"
        if status not in (-signal.SIGPROF, -signal.SIGKILL):
            raise RuntimeError(f"the process that compiles constraints ended with {status}")
        return (
            f"takes longer to compile than {self._seconds:g} s of processor time, the limit "
            "(constraint_seconds)"
        )


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ends a process, if it has not ended, and tells how it did."""
    if process.poll() is None and process.stdin is not None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return process.wait()
