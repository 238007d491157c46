"""The branches of one interactive call: which there are, how long they will be, what is known.

Knows: actions, the tokens that were told. Does not know: the wire, when answers are written.

How long a branch will be once everything that was asked for is done follows from the actions alone,
so each action is checked as it comes, and none has to wait for those before it.
"""

from __future__ import annotations

import time
from collections import deque

from nextok_server.errors import InvalidRequest
from nextok_server.events import Event
from nextok_server.interact_requests import Action, Drop, Force, Fork, Rewind, Sample, Start, Switch
from nextok_server.orders import Order
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Request, StopParams
from nextok_server.streams import Admission, Stream
from nextok_server.text_stream import TextStream
from nextok_server.tokenizer import Tokenizer

# Candidates that the events of one call which nobody reads yet may hold, and such events where
# each has a whole vocabulary: some 3 MB.
_UNREAD_CANDIDATES = 16_384
_LEAST_UNREAD = 64
_UNREAD_VOCABULARIES = 16


class Branch:
    """One text, as far as it was told.

    Attributes:
        number: Of the branch, in its call.
        stream: Of the sequence that computes it; None before it was started.
        length: Tokens behind the prompt, once everything asked for is done.
        sampling: How tokens are drawn then.
        dropped: Whether it will have been given up then.
        token_ids: Those behind the prompt that were told.
    """

    def __init__(self, number: int, origin: Branch | None, start: Start) -> None:
        self.number = number
        self.stream: Stream | None = None
        self.length: int = 0 if origin is None else origin.length
        self.sampling: SamplingParams = start.sampling if origin is None else origin.sampling
        self.dropped = False
        self.token_ids: list[int] = []
        self._text = TextStream()
        self._events: deque[Event] = deque()

    async def next(self, runner: Runner) -> Event:
        """What became known next.

        Raises:
            ServerError: The engine stopped.
        """
        assert self.stream is not None
        if not self._events:
            self._events.extend(await self.stream.read())
        runner.acknowledge(self.stream, 1)
        return self._events.popleft()

    def append(self, token_id: int, tokenizer: Tokenizer) -> str:
        """Takes in a token that was told; returns the text that it lets out."""
        self.token_ids.append(token_id)
        return self._text.push(tokenizer.token_bytes(token_id)).delta

    def become(self, token_ids: list[int], tokenizer: Tokenizer) -> None:
        """Takes in that these are the tokens, after some were taken off or as a copy."""
        self.token_ids = []
        self._text = TextStream()
        for token_id in token_ids:
            self.append(token_id, tokenizer)


class Branches:
    """The branches of one call, on the event loop.

    Args:
        start: What the call began with.
        admission: The call's place.
        runner: Runs them.
        limits: On how many and how long.
        family: What they share state by.

    Attributes:
        budget: Events that may be on their way, beside those that are being written.
        live: Those that are not dropped, by number, as of the last action that was read.
    """

    def __init__(
        self, start: Start, admission: Admission, runner: Runner, limits: Limits, family: bytes
    ) -> None:
        outputs = start.outputs
        candidates = 1 + outputs.top + len(outputs.token_ids)
        self.budget = max(_LEAST_UNREAD, _UNREAD_CANDIDATES // candidates)
        if outputs.full:
            self.budget = _UNREAD_VOCABULARIES
        self._runner = runner
        self._limits = limits
        self._start = start
        self._room = limits.context_length - len(start.prompt)
        self._request = Request(
            start.prompt,
            start.sampling,
            StopParams(max_tokens=0),
            outputs,
            grammar=start.grammar,
            family=family,
            open=True,
        )
        root = Branch(0, None, start)
        root.stream = runner.start(admission, self._request, window=self.budget)
        self.live = {0: root}
        self._made = 1
        self.current = root

    def find(self, number: int | None) -> Branch:
        """The branch that an action means.

        Raises:
            InvalidRequest: There is none.
        """
        if number is None:
            if self.current.dropped:
                raise InvalidRequest(
                    "branch_id",
                    f"is missing: {self.current.number}, which was switched to last, was dropped",
                )
            return self.current
        if number not in self.live:
            why = "was dropped" if number < self._made else "is no branch of this call"
            raise InvalidRequest("branch_id", f"is {number}, which {why}")
        return self.live[number]

    def note(self, branch: Branch, action: Action) -> tuple[Branch, Action]:
        """Checks an action against its branch, and notes what it will do.

        Returns:
            The branch that the answer is about, and the action with all that it left open.

        Raises:
            InvalidRequest: Names the field, the value and the range.
        """
        match action:
            case Force(token_ids=ids, field=field):
                self._grow(branch, len(ids), field, f"has {len(ids)} tokens")
            case Sample(count=count):
                self._grow(branch, count, "sample.count", f"is {count}")
                action = action.after(branch.sampling)
                branch.sampling = action.sampling or branch.sampling
            case Rewind(count=count):
                if count > branch.length:
                    raise InvalidRequest(
                        "rewind.count", f"is {count}, the range is 0 to {branch.length}"
                    )
                branch.length -= count
            case Fork():
                return self._copy(branch), action
            case Drop():
                branch.dropped = True
                del self.live[branch.number]
            case Switch():
                self.current = branch
        return branch, action

    def order(self, origin: Branch, branch: Branch, action: Action) -> None:
        """Has the engine do what an action that was noted says, after what it was told before.

        Args:
            origin: What the action is about.
            branch: What its answer is about.
            action: Any but a drop or a stop.
        """
        assert origin.stream is not None
        match action:
            case Fork():
                branch.stream = self._runner.fork(origin.stream, self._request, window=self.budget)
                return
            case Force(token_ids=ids):
                order = Order(forced=ids)
            case Sample(count=count, sampling=sampling):
                order = Order(draws=count, sampling=sampling)
            case Rewind(count=count):
                order = Order(rewind=count)
            case _:
                order = Order()
        self._runner.order(origin.stream, order)

    def park_idle(self, seconds: float) -> float:
        """Parks the branches that had nothing to do for so long.

        Returns:
            Seconds after which there may be others.
        """
        now = time.monotonic()
        soonest = seconds
        for branch in self.live.values():
            stream = branch.stream
            if stream is None or not stream.sequence.resting:
                continue
            left = stream.told_at + seconds - now
            if left <= 0:
                self._runner.park(stream)
            else:
                soonest = min(soonest, left)
        return soonest

    def _grow(self, branch: Branch, count: int, field: str, said: str) -> None:
        left = self._room - branch.length
        if count > left:
            held = len(self._start.prompt) + branch.length
            raise InvalidRequest(
                field,
                f"{said}, the most is {left}: branch {branch.number} has {held} of the "
                f"{self._limits.context_length} tokens of the context",
            )
        branch.length += count

    def _copy(self, branch: Branch) -> Branch:
        most = self._limits.max_branches
        if len(self.live) >= most:
            raise InvalidRequest(
                "fork", f"makes branch {len(self.live) + 1}, the limit is {most} (max_branches)"
            )
        copy = Branch(self._made, branch, self._start)
        self._made += 1
        self.live[copy.number] = copy
        return copy
