"""Several completions of one prompt as the engine's sequences.

Knows: what completions of a prompt share, and the seed that each one is drawn with. Does not know:
the wire, text, when sequences run.

An open sequence computes the prompt and is forked where it ends, once for each completion: all
of them choose their first tokens from the same distribution, and copy the prompt's state as they
get slots. A single completion needs none of that.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nextok_server.runner import Runner
from nextok_server.sequence import Outputs, Request, StopParams
from nextok_server.streams import Admission, Stream

_SEEDS = 1 << 64


@dataclass(frozen=True, slots=True)
class Choices:
    """Sequences that run for one request.

    Attributes:
        root: Computes the prompt, and tells of it.
        streams: The completions, by number; the root itself where there is only one.
    """

    root: Stream
    streams: tuple[Stream, ...]

    @property
    def all(self) -> Iterator[Stream]:
        """Every one, what computes the prompt first."""
        if len(self.streams) > 1:
            yield self.root
        yield from self.streams

    @property
    def shared(self) -> int:
        """Tokens of the prompt that are computed for all completions together."""
        prompt = len(self.root.sequence.request.prompt)
        return prompt if len(self.streams) > 1 and self.root.sequence.started_at else 0


def start(
    runner: Runner, admission: Admission, request: Request, count: int, *, window: int
) -> Choices:
    """Starts a request's completions.

    Args:
        runner: Of the engine.
        admission: The request's place.
        request: For the first completion alone.
        count: How many.
        window: Events that the reader may be behind before a completion pauses.
    """
    try:
        return _start(runner, admission, request, count, window)
    finally:
        # Its place is another's once these have ended, read or not.
        admission.open = False


def _start(
    runner: Runner, admission: Admission, request: Request, count: int, window: int
) -> Choices:
    if count == 1:
        stream = runner.start(admission, request, window=window)
        return Choices(stream, (stream,))
    family = secrets.token_bytes(16)
    root = runner.start(admission, _root(request, family), window=window)
    return Choices(
        root,
        tuple(
            runner.fork(root, _choice(request, number, family), window=window)
            for number in range(count)
        ),
    )


def _root(request: Request, family: bytes) -> Request:
    """What computes the prompt, with all that its completions ask of a distribution."""
    return replace(
        request,
        stop=StopParams(max_tokens=0),
        outputs=request.outputs if request.outputs.prompt else Outputs(),
        drafts=False,
        grammar=None,
        family=family,
        open=True,
    )


def _choice(request: Request, number: int, family: bytes) -> Request:
    """A completion as if it had been asked for alone, but that it has the prompt from others."""
    seed = (request.sampling.seed + number) % _SEEDS
    return replace(
        request,
        sampling=replace(request.sampling, seed=seed),
        outputs=replace(request.outputs, prompt=False),
        fork=len(request.prompt),
        family=family,
    )
