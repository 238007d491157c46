"""The calls that one generation makes: the first, and those that go on where a stream broke.

Knows the request, what may be tried again, how often, and the one budget of time for all of it.
Does not know how a call is read nor how a pause is waited for, so both clients share it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from nextok.choices import choice_seed
from nextok.errors import Cancelled, DeadlineExceeded, NextokError, Unavailable
from nextok.transcript import Transcript
from nextok.v1 import text_generation_pb2 as pb

DEFAULT_RESUME: Final = 5
# Attempts that bring nothing which one client may make, beyond those that its streams get for
# what they brought; each generation that ends well gives one back.
_BUDGET: Final = 100
# The first pause is short, for another server may be there at once; from one to the next they
# double, up to 6.4 seconds. Jitter keeps many clients of one dead server from coming together.
FIRST_PAUSE_SECONDS = 0.1
_MOST_DOUBLINGS: Final = 6
_LEAST_JITTER: Final = 0.5


class RetryBudget:
    """What all generations of one client together may try in vain. Threads may share it.

    So servers in trouble get no flood of attempts from a client with many streams.
    """

    def __init__(self) -> None:
        self._left = _BUDGET
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes one attempt, if there is one left."""
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """Says that a generation ended well."""
        with self._lock:
            self._left = min(_BUDGET, self._left + 1)


class Attempts:
    """What a generation asks for, and how it goes on when its stream breaks.

    Args:
        method: The stub's method, sync or asyncio.
        request: What to generate. It is not changed.
        resume: How many attempts in a row may bring nothing new.
        timeout: Seconds for all attempts and pauses together; None for no limit.
        budget: Of the client; attempts that brought nothing are taken from it.

    Attributes:
        request: As given.
        choices: How many completions it asks for.
        resumed: How often the stream was gone on with.

    Raises:
        ValueError: `resume` is negative.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        request: pb.GenerateRequest,
        *,
        resume: int,
        timeout: float | None,
        budget: RetryBudget | None = None,
    ) -> None:
        if resume < 0:
            raise ValueError(f"resume: is {resume}, the least is 0")
        self.request = request
        self.choices = max(1, request.n)
        self.resumed = 0
        self._method = method
        self._limit = resume
        self._timeout = timeout
        self._budget = budget or RetryBudget()
        self._began = time.monotonic()
        self._in_vain = 0
        self._received = 0

    def first(self) -> Any:
        """Makes the first call."""
        return self._method(self.request, timeout=self._timeout)

    def can_go_on(self, failure: NextokError, transcript: Transcript) -> bool:
        """Tells whether another attempt makes sense, given what was received until now.

        A server that stops may cancel what reaches it in its last moments, and so may something
        between; before the first message that is as good as not having reached it. A server that
        did not tell its artifact cannot be told from another one, so that nothing is put behind
        what came from it.
        """
        if transcript.received > self._received:
            self._received = transcript.received
            self._in_vain = 0
        prompt = transcript.prompt
        told = prompt is None or bool(prompt.artifact_sha256)
        lost = isinstance(failure, (Unavailable, Cancelled) if prompt is None else Unavailable)
        if not lost or not told or self._in_vain >= self._limit:
            return False
        return self._in_vain == 0 or self._budget.take()

    def ended(self) -> None:
        """Says that the generation ended well."""
        self._budget.give_back()

    def pause(self) -> float:
        """Counts one more attempt, and returns for how many seconds to wait before it."""
        longest = FIRST_PAUSE_SECONDS * 2.0 ** min(self._in_vain, _MOST_DOUBLINGS)
        self._in_vain += 1
        seconds = longest * random.uniform(_LEAST_JITTER, 1.0)
        left = self._left()
        return seconds if left is None else max(0.0, min(seconds, left))

    def again(self, transcript: Transcript, failure: NextokError) -> Any:
        """Makes the call that goes on behind what was received.

        Raises:
            DeadlineExceeded: There is no time left for it.
        """
        left = self._left()
        if left is not None and left <= 0:
            raise DeadlineExceeded(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"{self._timeout:g} s passed before the stream could be resumed; it broke with "
                f"{failure}",
            ) from failure
        return self._behind(transcript, left)

    def has_more(self, transcript: Transcript) -> bool:
        """Tells whether, of a stream that broke, completions are left that no call was made for.

        Several are gone on with one after the other.
        """
        return transcript.only in transcript.finishes and bool(transcript.unfinished)

    def following(self, transcript: Transcript) -> Any:
        """Makes the call for the next of them.

        Raises:
            DeadlineExceeded: There is no time left for it.
        """
        left = self._left()
        if left is not None and left <= 0:
            raise DeadlineExceeded(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"{self._timeout:g} s passed before all completions were resumed",
            )
        return self._behind(transcript, left)

    def _behind(self, transcript: Transcript, timeout: float | None) -> Any:
        """Makes the call that goes on behind what was received.

        One for several completions is sent again as it was while nothing of them has come, and
        otherwise for the first that has not ended, alone and with its own seed.
        """
        request = pb.GenerateRequest()
        request.CopyFrom(self.request)
        only = None
        if transcript.prompt is not None:
            request.sampling.seed = transcript.prompt.seed
            request.drafts = transcript.prompt.drafts
            if self.choices > 1 and transcript.arrived:
                only = next(iter(transcript.unfinished), 0)
                request.sampling.seed = choice_seed(transcript.prompt.seed, only)
                request.ClearField("n")
                scored = len(transcript.prompt_logprobs) == len(transcript.prompt.tokens)
                request.prompt_logprobs = self.request.prompt_logprobs and not scored
        request.resume_token_ids.extend(transcript.token_ids(only or 0))
        since = time.monotonic() - self._began
        transcript.expect(only, len(request.resume_token_ids), since)
        self.resumed += 1
        return self._method(request, timeout=timeout)

    def _left(self) -> float | None:
        if self._timeout is None:
            return None
        return self._began + self._timeout - time.monotonic()
