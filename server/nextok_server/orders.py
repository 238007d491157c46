"""What an open sequence is told to do.

Knows: the orders, and what each leaves to append. Does not know: how tokens are chosen, who runs
next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nextok_server.sampling_params import SamplingParams

if TYPE_CHECKING:
    # A sequence holds orders, and one of the orders names a sequence.
    from nextok_server.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Order:
    """Changes the end of a sequence; when done, what could come next is told.

    Attributes:
        rewind: Tokens to take off the end first.
        appended: Tokens to append then, of which nothing is told.
        shelved: Whether the state of those that have to be computed is put on the shelf.
        sampling: How tokens are chosen from now on; None as before.
        forced: Tokens to append after those.
        draws: How many to draw after those.
    """

    rewind: int = 0
    appended: tuple[int, ...] = ()
    shelved: bool = False
    sampling: SamplingParams | None = None
    forced: tuple[int, ...] = ()
    draws: int = 0

    def begin(self, sequence: Sequence) -> bool:
        """Gives the sequence this to do.

        Returns:
            Whether a distribution that was known behind the last token still is.
        """
        known = self.rewind == 0 and not self.appended
        sequence.rewind(self.rewind)
        sequence.extend(self.appended)
        sequence.shelved = self.shelved
        if self.sampling is not None:
            known = known and not _needs_another(sequence.sampling, self.sampling)
            sequence.sampling = self.sampling
        sequence.forced.extend(self.forced)
        sequence.draws = self.draws
        return known


@dataclass(frozen=True, slots=True)
class Fork:
    """Begins another sequence as a copy of this one, as it is when its turn comes.

    Attributes:
        child: A sequence that has not begun.
    """

    child: Sequence

    def begin(self, sequence: Sequence) -> bool:
        """Gives the child the sequence's tokens, its place in a form, and, if open, its parameters.

        Returns:
            Whether a distribution that is known behind the last token is of use to the child.
        """
        self.child.tokens = list(sequence.tokens)
        if sequence.matcher is not None:
            self.child.matcher = sequence.matcher.copy()
        if self.child.request.open:
            self.child.sampling = sequence.sampling
        else:
            self.child.shared = len(sequence.tokens)
            self.child.started_at = sequence.started_at
        return not _needs_another(sequence.sampling, self.child.sampling)


def _needs_another(before: SamplingParams, after: SamplingParams) -> bool:
    """Whether the graph has to give more, or something else, than it did: see `Row`."""
    penalized = after.repetition_penalty != 1.0 and before.repetition_penalty == 1.0
    return penalized or after.temperature != before.temperature
