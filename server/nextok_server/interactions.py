"""An interactive call on its way to the wire: what answers say.

Knows: the wire messages, branches, what the engine tells. Does not know: gRPC, the order of
answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.branches import Branch
from nextok_server.events import Event, Outlook, Step
from nextok_server.interact_requests import Action, Drop, Force, Fork, Rewind, Sample, Start
from nextok_server.outgoing import most_events
from nextok_server.replies import Replies
from nextok_server.runner import Runner
from nextok_server.tokenizer import Tokenizer

_STEPS = pb.InteractResponse.DESCRIPTOR.fields_by_name["steps"].number


class Interaction:
    """Turns what the branches of a call tell into answers.

    Attributes:
        prompt_tokens: Of the prompt.
        appended: Tokens that all branches together were given, whether they still have them.
    """

    def __init__(
        self,
        start: Start,
        prompt: pb.PromptInfo,
        *,
        runner: Runner,
        tokenizer: Tokenizer,
        replies: Replies,
    ) -> None:
        self.prompt_tokens = len(start.prompt)
        self.appended = 0
        self._prompt = prompt
        self._runner = runner
        self._tokenizer = tokenizer
        self._replies = replies
        self._most_steps = most_events(start.outputs)
        self._usage = types.Usage(prompt_tokens=self.prompt_tokens)
        self._timings = types.Timings()
        self._arrived_at = self._first_at = self._last_at = 0.0

    async def opening(self, root: Branch) -> pb.InteractResponse:
        """The answer to what the call began with."""
        assert root.stream is not None
        sequence = root.stream.sequence
        outlook = await self._next(root)
        self._arrived_at, self._first_at = sequence.arrived_at, outlook.at
        self._usage.cached_tokens = sequence.cached
        self._timings.queue_seconds = sequence.started_at - sequence.arrived_at
        self._timings.prefill_seconds = outlook.at - sequence.started_at
        answer = pb.InteractResponse(prompt=self._prompt)
        self._tell(answer, root, outlook)
        return answer

    async def answers(
        self, index: int, origin: Branch, branch: Branch, action: Action
    ) -> AsyncIterator[pb.InteractResponse]:
        """The answers to an action, any but a stop.

        Args:
            index: Number of the action.
            origin: The branch that it is about.
            branch: The branch that its answer is about.
            action: Which the engine has been given.
        """
        answer = pb.InteractResponse(action_index=index, branch_id=branch.number)
        match action:
            case Drop():
                yield answer
                return
            case Sample(count=count):
                async for drawn in self._drawn(answer, branch, count):
                    yield drawn
                return
            case Force(token_ids=ids):
                for _ in ids:
                    if len(answer.steps) == self._most_steps:
                        yield answer
                        answer = pb.InteractResponse(action_index=index, branch_id=branch.number)
                    self._append(answer, branch, await self._next(branch))
            case Rewind(count=count):
                kept = len(branch.token_ids) - count
                branch.become(branch.token_ids[:kept], self._tokenizer)
            case Fork():
                branch.become(origin.token_ids, self._tokenizer)
        self._tell(answer, branch, await self._next(branch))
        yield answer

    def end(self, index: int) -> pb.InteractResponse:
        """The answer to a stop: the call, counted."""
        self._usage.completion_tokens = self.appended
        self._timings.decode_seconds = self._last_at - self._first_at
        summary = pb.GenerateSummary(usage=self._usage, timings=self._timings)
        return pb.InteractResponse(action_index=index, summary=summary)

    async def _drawn(
        self, answer: pb.InteractResponse, branch: Branch, count: int
    ) -> AsyncIterator[pb.InteractResponse]:
        """An answer for each of so many tokens: what comes next is known with the one behind it."""
        event = await self._next(branch)
        for _ in range(count):
            drawn = pb.InteractResponse()
            drawn.CopyFrom(answer)
            self._append(drawn, branch, event)
            event = await self._next(branch)
            self._tell(drawn, branch, event)
            yield drawn

    async def _next(self, branch: Branch) -> Step | Outlook:
        event: Event = await branch.next(self._runner)
        assert isinstance(event, Step | Outlook)
        self._last_at = event.at
        return event

    def _append(self, answer: pb.InteractResponse, branch: Branch, event: Step | Outlook) -> None:
        assert isinstance(event, Step)
        delta = branch.append(event.token.token_id, self._tokenizer)
        elapsed = event.at - self._arrived_at
        answer.MergeFromString(self._replies.step(_STEPS, event, delta, elapsed))
        self.appended += 1

    def _tell(self, answer: pb.InteractResponse, branch: Branch, event: Step | Outlook) -> None:
        """Says what could come next, which is what the next token is chosen from as well."""
        position = self.prompt_tokens + len(branch.token_ids)
        self._replies.fill_distribution(answer.distribution, position, event.distribution)
