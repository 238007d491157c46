"""What a generation has sent so far.

Knows the messages of a Generate stream and their order. Does not know how they arrive, which is
why the sync and the asyncio generation share it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import grpc

from nextok import formatting, notebook, replies
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

    `steps` and `text` hold the steps that `take` has handed out: inside a loop they end with
    the step that the loop is at, however many have arrived.
    """

    def __init__(self) -> None:
        self.prompt: PromptInfo | None = None
        self.prompt_logprobs: list[ScoredToken] = []
        self.steps: list[Step] = []
        self.finish: Finish | None = None
        self.summary: GenerateSummary | None = None
        self._waiting: deque[Step] = deque()
        # Of a stream that goes on with one that broke: which step has to come first, how many
        # of the prompt's log probabilities are to come once more, when it was asked for.
        self._next_index: int | None = None
        self._repeated = 0
        self._asked_at = 0.0

    @property
    def text(self) -> str:
        """The text of the steps that were handed out."""
        return "".join([step.delta for step in self.steps])

    @property
    def arrived(self) -> list[Step]:
        """All steps that have arrived, handed out or not."""
        return [*self.steps, *self._waiting]

    @property
    def token_ids(self) -> list[int]:
        """The tokens of all steps that have arrived."""
        return [step.id for step in self.arrived]

    @property
    def received(self) -> int:
        """How many tokens have arrived, the prompt's scored ones included."""
        return len(self.steps) + len(self._waiting) + len(self.prompt_logprobs)

    def expect(self, index: int, asked_at: float) -> None:
        """Prepares for a stream that goes on with this one, which broke.

        Args:
            index: Of the step that has to come next.
            asked_at: Seconds from the first request to the one for that stream; the times of
                its steps are counted from there.
        """
        self._next_index = index
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
            self.finish = replies.finish(message.finish)
        if message.HasField("summary"):
            self.summary = replies.generate_summary(message.summary)

    def _begin(self, prompt: PromptInfo) -> None:
        if self.prompt is None:
            self.prompt = prompt
        elif prompt.artifact_sha256 != self.prompt.artifact_sha256:
            raise ArtifactChanged(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the stream broke after {formatting.tokens(len(self.token_ids))}, and the "
                "server that was to go on with it has another artifact: "
                f"{prompt.artifact_sha256 or 'one that it does not name'}, not "
                f"{self.prompt.artifact_sha256}",
            )

    def _read(self, message: types.Step) -> Step:
        step = replies.step(message)
        if self._next_index is None:
            return step
        if step.index != self._next_index:
            raise Internal(
                grpc.StatusCode.INTERNAL,
                f"the resumed stream had to go on with step {self._next_index}, and sent step "
                f"{step.index}",
            )
        self._next_index += 1
        return replace(step, elapsed_seconds=self._asked_at + step.elapsed_seconds)

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
        end = self.finish.finish_reason if self.finish else "not finished"
        return f"{len(self.steps)} steps, {end}: {self.text!r}"

    def _repr_html_(self) -> str:
        prompt = self.prompt.tokens if self.prompt else NO_TOKENS
        return notebook.generation(prompt, self.prompt_logprobs, self.steps, self.finish)
