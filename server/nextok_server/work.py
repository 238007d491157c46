"""What one sequence computes in a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from nextok_server.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of one sequence to compute.

    Attributes:
        sequence: Whose tokens.
        length: How many of those that it has: chunks of its prompt, or one.
        draft: Tokens that may come next, which are computed behind its last one.
    """

    sequence: Sequence
    length: int
    draft: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Tokens that are computed."""
        return self.length + len(self.draft)
