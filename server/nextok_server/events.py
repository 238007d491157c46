"""What the engine tells of a sequence, as it becomes known.

Knows: tokens, their probabilities, why a sequence ended. Does not know: what was asked for, text,
gRPC.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nextok_server.candidates import Candidate, Candidates
from nextok_server.errors import ServerError


class FinishReason(enum.Enum):
    """Why a sequence ended, as far as tokens tell; stop strings are found at the edge."""

    STOP_TOKEN = "stop_token"
    EOS = "eos"
    FORM = "form"  # the constraint's form is complete, and nothing may follow
    LENGTH = "length"
    CONTEXT = "context"


class Distribution(NamedTuple):
    """One raw distribution, summarized as far as was asked for.

    A tuple, as is made in a fraction of a frozen dataclass's time: there is one for every token.

    Attributes:
        top: The most likely tokens.
        chosen: Those asked for by id.
        entropy: Nats.
        top_mass: Probability of `top` together; `tail_mass` is that of all others.
        margin: Difference of the two largest log probabilities.
        full: float32 (V,), if asked for.
        allowed_mass: Probability of the tokens that the constraint leaves in; None without one.
    """

    top: Candidates
    chosen: Candidates
    entropy: float
    top_mass: float
    tail_mass: float
    margin: float
    full: np.ndarray | None
    allowed_mass: float | None = None


@dataclass(slots=True)
class Step:
    """One generated token and what it was taken from. Not frozen for the same reason.

    Attributes:
        index: Number in the completion, from 0.
        token: The chosen one, with both of its probabilities.
        forced: Given by the client rather than drawn.
        finish: Set on the last step.
        at: `time.monotonic()` when it was computed.
        drafted: Tokens that were drafted until then, in this pass too.
        accepted: Those of them that were right, this one included.
    """

    index: int
    token: Candidate
    forced: bool
    distribution: Distribution
    finish: FinishReason | None
    at: float
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class PromptScore:
    """A given token with its teacher-forced probability; none for the first one.

    Attributes:
        position: Tokens before it.
        last: Whether it is the last that the sequence tells.
        at: `time.monotonic()` when it was computed.
    """

    position: int
    token_id: int
    token: Candidate | None = None
    distribution: Distribution | None = None
    last: bool = False
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What could come next where an open sequence stands, and nothing was chosen.

    Attributes:
        position: Tokens before, the prompt's included.
        at: `time.monotonic()` when it was known.
    """

    position: int
    distribution: Distribution
    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a sequence that cannot go on, though the engine can."""

    error: ServerError


Event = Step | PromptScore | Outlook | Failed


def is_end(event: Event) -> bool:
    """Whether nothing comes after this event."""
    if isinstance(event, Step):
        return event.finish is not None
    return isinstance(event, Failed) or (isinstance(event, PromptScore) and event.last)
