"""What a generation has sent so far.

Knows the messages of a Generate stream and their order. Does not know how they arrive, which is
why the sync and the asyncio generation share it.
"""

from __future__ import annotations

from collections import deque

import grpc

from nextok import notebook, replies
from nextok.errors import Internal
from nextok.tokens import NO_TOKENS
from nextok.v1 import text_generation_pb2 as pb
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

    @property
    def text(self) -> str:
        """The text of the steps that were handed out."""
        return "".join([step.delta for step in self.steps])

    def add(self, message: pb.GenerateResponse) -> None:
        """Takes in the next message of the stream."""
        for step in message.steps:
            self._waiting.append(replies.step(step))
        if message.prompt_logprobs:
            self.prompt_logprobs += map(replies.scored_token, message.prompt_logprobs)
        if self.prompt is None and message.HasField("prompt"):
            self.prompt = replies.prompt_info(message.prompt)
        if message.HasField("finish"):
            self.finish = replies.finish(message.finish)
        if message.HasField("summary"):
            self.summary = replies.generate_summary(message.summary)

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
