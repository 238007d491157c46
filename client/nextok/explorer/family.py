"""Which branch came from which, and where.

Knows branches by what they tell of themselves. Knows no screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nextok.interaction import BranchView


@dataclass(frozen=True, slots=True)
class Line:
    """A branch's place in the tree.

    Attributes:
        branch_id: Number of the branch.
        lead: What is drawn before it: lines of the tree.
        tail: Its text behind the place where it was forked; its whole text for a root.
        tokens: How many tokens it has behind the prompt.
    """

    branch_id: int
    lead: str
    tail: str
    tokens: int


class Family:
    """The branches of a session, as a tree."""

    def __init__(self, first: int = 0) -> None:
        self._parents: dict[int, tuple[int | None, int]] = {first: (None, 0)}

    def fork(self, parent: BranchView, child: BranchView) -> None:
        """Notes that a branch was made from another, as it is now."""
        self._parents[child.branch_id] = (parent.branch_id, len(parent.steps))

    def drop(self, branch_id: int) -> None:
        """Forgets a branch; its children become its parent's."""
        place = self._parents.pop(branch_id)
        for child, (parent, _) in list(self._parents.items()):
            if parent == branch_id:
                self._parents[child] = place

    def lines(self, branches: Iterable[BranchView]) -> list[Line]:
        """Returns the branches in the order of the tree, children below their parents."""
        by_id = {branch.branch_id: branch for branch in branches}
        roots = [number for number, (parent, _) in self._parents.items() if parent is None]
        return [line for root in roots for line in self._below(root, by_id, "", "")]

    def _below(
        self, number: int, by_id: dict[int, BranchView], lead: str, further: str
    ) -> Iterator[Line]:
        branch = by_id[number]
        steps = branch.steps[self._parents[number][1] :]
        tail = b"".join([step.bytes for step in steps]).decode("utf-8", "replace")
        yield Line(number, lead, tail, len(branch.steps))
        children = [child for child, (parent, _) in self._parents.items() if parent == number]
        for child in children:
            last = child == children[-1]
            yield from self._below(
                child,
                by_id,
                further + ("└─ " if last else "├─ "),
                further + ("   " if last else "│  "),
            )
