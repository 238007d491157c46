"""A running generation, read by a plain loop.

Knows the sync call of grpc: reading it, cancelling it, its errors. What was read is kept by
`Transcript`. `async_generation` is this file's twin.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import grpc

from nextok.errors import Internal, error_from_rpc
from nextok.transcript import Transcript
from nextok.values import Distribution, Finish, GenerateSummary, PromptInfo, ScoredToken, Step


class Generation:
    """A running generation: an iterator of steps, as they are computed.

    The call is cancelled when a `with` around it is left, when `cancel` is called, and when
    the generation is no longer referred to. After its end, nothing of that does anything.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._transcript = Transcript()

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> Step:
        """Returns the next step.

        Raises:
            NextokError: The call failed; the steps before stay in `steps`.
        """
        while (step := self._transcript.take()) is None:
            if not self._receive():
                raise StopIteration
        return step

    def start(self) -> PromptInfo:
        """Waits for the first message, if it has not come yet, and returns the prompt.

        Raises:
            NextokError: The call failed.
        """
        while self._transcript.prompt is None:
            if not self._receive():
                raise Internal(grpc.StatusCode.INTERNAL, "the stream ended without a prompt")
        return self._transcript.prompt

    @property
    def prompt(self) -> PromptInfo:
        """What the prompt was read as. Waits for the first message; see `start`."""
        return self.start()

    @property
    def prompt_logprobs(self) -> tuple[ScoredToken, ...]:
        """The prompt's log probabilities that have come so far, if they were asked for."""
        return tuple(self._transcript.prompt_logprobs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that were read so far."""
        return tuple(self._transcript.steps)

    @property
    def text(self) -> str:
        """The text of the steps that were read so far, without the prompt."""
        return self._transcript.text

    @property
    def finish(self) -> Finish | None:
        """Why the completion ended; None before that."""
        return self._transcript.finish

    @property
    def summary(self) -> GenerateSummary | None:
        """The whole request, counted; None before the end."""
        return self._transcript.summary

    def _distribution(self) -> Distribution:
        """Reads the whole stream, and returns what its first step was chosen from."""
        while self._receive():
            pass
        self._transcript.take()
        return self._transcript.distribution()

    def cancel(self) -> None:
        """Cancels the call, from any thread. Whoever still reads it gets `Cancelled`."""
        self._call.cancel()

    def _receive(self) -> bool:
        """Waits for a message; returns False at the end."""
        # grpc's channel option SingleThreadedUnaryStream would halve what a step costs here,
        # but grpc 1.85 then keeps 22 kB of every call that was cancelled.
        try:
            self._transcript.add(next(self._call))
        except StopIteration:
            return False
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error
        return True

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transcript!r}>"

    def _repr_html_(self) -> str:
        return self._transcript._repr_html_()
