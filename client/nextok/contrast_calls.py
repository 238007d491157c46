"""The helper that contrasts, its options spelled once for both clients.

Knows its options. Does not know how sessions are driven, nor whether they have to be awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from nextok.lockstep import Lockstep, plan
from nextok.weighing import Settings

C = TypeVar("C")  # the contrast that the client returns, sync or asyncio


class ContrastCalls(ABC, Generic[C]):
    """Gives a client its `contrast`."""

    @abstractmethod
    def _start_contrast(self, lockstep: Lockstep, *, timeout: float | None) -> C:
        """Starts what it takes."""

    def contrast(
        self,
        prompt: str | Sequence[int],
        *,
        other_prompt: str | Sequence[int] | None = None,
        settings: Settings | None = None,
        other_settings: Settings | None = None,
        continuation: str | Sequence[int] | None = None,
        max_tokens: int = 20,
        seed: int | None = None,
        top_logprobs: int = 10,
        timeout: float | None = None,
    ) -> C:
        """Follows the same tokens behind two prompts, or under two settings, and compares.

            for step in client.contrast("The king said", other_prompt="The queen said"):
                print(step.token, step.prob, step.other_prob, step.js)

        At every step, the divergences of what the two sides would draw from, over the whole
        vocabulary, after each side's settings. Both sides are computed by the server, step by
        step; where only the settings differ, once for both.

        Args:
            prompt: Of the first side: text, or token ids.
            other_prompt: Of the other side. Default: the same.
            settings: Of the first side. Default: the model's own distribution.
            other_settings: Of the other side. Default: those of the first.
            continuation: A text or token ids to follow. Default: the first side draws them,
                under its settings.
            max_tokens: How many to draw; it goes on past the model's end-of-text token.
            seed: Of the draws. Default: the server picks one.
            top_logprobs: How many of the likeliest tokens of each side a step lists.
            timeout: Seconds that all of it may take. Default: no limit.

        Returns:
            The contrast, an iterator of steps.

        Raises:
            TypeError: An argument is of a type that no request can hold.
            ValueError: The two sides are the same, or an argument does not fit a request.
        """
        lockstep = plan(
            prompt,
            other_prompt=other_prompt,
            settings=settings,
            other_settings=other_settings,
            continuation=continuation,
            max_tokens=max_tokens,
            seed=seed,
            top_logprobs=top_logprobs,
        )
        return self._start_contrast(lockstep, timeout=timeout)
