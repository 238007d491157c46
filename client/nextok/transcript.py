"""What a generation has sent so far.

Knows the messages of a Generate stream and their order. Does not know how they arrive, which is
why the sync and the asyncio generation share it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace

import grpc

from nextok import formatting, notebook, replies
from nextok.choices import Choice, sort_out
from nextok.errors import ArtifactChanged, Internal
from nextok.tokens import NO_TOKENS
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok.values import (
    Distribution,
    Finish,
    GenerateSummary,
    PromptInfo,
    ScoredToken,
    Step,
)


class Transcript:
    """What a generation has sent so far, and which steps were handed out.

    `steps` and what is made of them hold the steps that `take` has handed out: inside a loop they
    end with the step that the loop is at, however many have arrived.

    Args:
        choices: How many completions of the prompt were asked for.

    Attributes:
        call_ended: Whether the call that is read has sent all that it had to.
        only: The completion that the call goes on with by itself; None where it is for all.
    """

    def __init__(self, choices: int = 1) -> None:
        self.prompt: PromptInfo | None = None
        self.prompt_logprobs: list[ScoredToken] = []
        self.steps: list[Step] = []
        self.finishes: dict[int, Finish] = {}
        self.summary: GenerateSummary | None = None
        self.call_ended = False
        self.only: int | None = None
        self._waiting: deque[Step] = deque()
        self._count = choices
        self._ids: defaultdict[int, list[int]] = defaultdict(list)
        # Of a stream that goes on with one that broke: which step of each completion has to come
        # next, how many of the prompt's log probabilities are to come once more, when it was
        # asked for.
        self._next_index: dict[int, int] | None = None
        self._repeated = 0
        self._asked_at = 0.0

    @property
    def text(self) -> str:
        """The text of the first completion's steps that were handed out."""
        return "".join([step.delta for step in self.steps if step.choice == 0])

    @property
    def finish(self) -> Finish | None:
        """The end of the first completion."""
        return self.finishes.get(0)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Each completion as far as it was handed out."""
        return sort_out(self._count, self.prompt, self.steps, self.finishes)

    @property
    def unfinished(self) -> list[int]:
        """The completions that have not come to their ends."""
        return [choice for choice in range(self._count) if choice not in self.finishes]

    @property
    def arrived(self) -> list[Step]:
        """All steps that have arrived, handed out or not."""
        return [*self.steps, *self._waiting]

    @property
    def received(self) -> int:
        """How many tokens have arrived, the prompt's scored ones included."""
        return len(self.steps) + len(self._waiting) + len(self.prompt_logprobs)

    def token_ids(self, choice: int = 0) -> list[int]:
        """The tokens of a completion that have arrived."""
        return self._ids[choice]

    def expect(self, only: int | None, index: int, asked_at: float) -> None:
        """Prepares for a stream that goes on with this one, which broke.

        Args:
            only: The completion that it goes on with; None where it is for all.
            index: Of the step that has to come next, of each completion that does.
            asked_at: Seconds from the first request to the one for that stream; the times of
                its steps are counted from there.
        """
        self.call_ended = False
        self.only = only
        self._next_index = defaultdict(lambda: index)
        self._repeated = len(self.prompt_logprobs)
        self._asked_at = asked_at

    def add(self, message: pb.GenerateResponse) -> None:
        """Takes in the next message of the stream.

        Raises:
            ArtifactChanged: It goes on with a stream that another artifact computed.
            Internal: It does not go on where that one broke.
        """
        # First, so that nothing is kept of a stream that does not belong here.
        if message.HasField("prompt"):
            self._begin(replies.prompt_info(message.prompt))
        for step in message.steps:
            self._waiting.append(self._read(step))
        if message.prompt_logprobs:
            known = min(self._repeated, len(message.prompt_logprobs))
            self._repeated -= known
            self.prompt_logprobs += map(replies.scored_token, message.prompt_logprobs[known:])
        if message.HasField("finish"):
            finish = replies.finish(message.finish)
            choice = self._number(finish.choice)
            self.finishes[choice] = replace(finish, choice=choice)
        if message.HasField("summary"):
            self._end(replies.generate_summary(message.summary))

    def _begin(self, prompt: PromptInfo) -> None:
        if self.prompt is None:
            self.prompt = prompt
        elif prompt.artifact_sha256 != self.prompt.artifact_sha256:
            raise ArtifactChanged(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the stream broke after {formatting.tokens(len(self.arrived))}, and the "
                "server that was to go on with it has another artifact: "
                f"{prompt.artifact_sha256 or 'one that it does not name'}, not "
                f"{self.prompt.artifact_sha256}",
            )

    def _read(self, message: types.Step) -> Step:
        step = replies.step(message)
        choice = self._number(step.choice)
        self._ids[choice].append(step.id)
        if self._next_index is None:
            return step
        if step.index != self._next_index[choice]:
            raise Internal(
                grpc.StatusCode.INTERNAL,
                f"the resumed stream had to go on with step {self._next_index[choice]}, and sent "
                f"step {step.index}",
            )
        self._next_index[choice] += 1
        elapsed = self._asked_at + step.elapsed_seconds
        return replace(step, choice=choice, elapsed_seconds=elapsed)

    def _number(self, told: int) -> int:
        """The number of a completion that the call has under another where it has it alone."""
        choice = told if self.only is None else self.only
        if choice >= self._count:
            raise Internal(
                grpc.StatusCode.INTERNAL,
                f"the server sent completion {choice}, the range is 0 to {self._count - 1}",
            )
        return choice

    def _end(self, summary: GenerateSummary) -> None:
        self.call_ended = True
        if self.only is not None:
            # It counts the one completion that it was for.
            tokens = sum([finish.completion_tokens for finish in self.finishes.values()])
            usage = replace(summary.usage, completion_tokens=tokens)
            summary = replace(summary, usage=usage)
        if self.only is None or not self.unfinished:
            self.summary = summary

    def take(self) -> Step | None:
        """Hands out the next step that has arrived, if one has."""
        if not self._waiting:
            return None
        step = self._waiting.popleft()
        self.steps.append(step)
        return step

    def distribution(self) -> Distribution:
        """Returns what the first step was chosen from.

        Raises:
            Internal: The stream ended without a step.
        """
        if self.prompt is None or not self.steps:
            raise Internal(grpc.StatusCode.INTERNAL, "the stream ended without a step")
        step = self.steps[0]
        return Distribution(
            position=len(self.prompt.tokens),
            top_logprobs=step.top_logprobs,
            token_logprobs=step.token_logprobs,
            full_logprobs=step.full_logprobs,
            entropy=step.entropy,
            top_mass=step.top_mass,
            tail_mass=step.tail_mass,
            margin=step.margin,
            allowed_mass=step.allowed_mass,
        )

    def __repr__(self) -> str:
        if self._count > 1:
            ended = f"{len(self.finishes)} of {self._count} completions finished"
            return f"{len(self.steps)} steps, {ended}"
        end = self.finish.finish_reason if self.finish else "not finished"
        return f"{len(self.steps)} steps, {end}: {self.text!r}"

    def _repr_html_(self) -> str:
        prompt = self.prompt.tokens if self.prompt else NO_TOKENS
        completions = [(choice.steps, choice.finish) for choice in self.choices]
        return notebook.generation(prompt, self.prompt_logprobs, completions)
