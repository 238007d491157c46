"""Which branch came from which, and where.

Knows branches by what they tell of themselves. Knows no screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nextok.interaction import BranchView


@dataclass(frozen=True, slots=True)
class Line:
    """A branch's place in the tree.

    Attributes:
        branch_id: Number of the branch.
        lead: What is drawn before it: lines of the tree.
        tail: Its text behind what it shares with its parent; its whole text for a root.
    """

    branch_id: int
    lead: str
    tail: str


class Family:
    """The branches of a session, as a tree."""

    def __init__(self, first: int = 0) -> None:
        self._parents: dict[int, int | None] = {first: None}

    def fork(self, parent: BranchView, child: BranchView) -> None:
        """Notes that a branch was made from another."""
        self._parents[child.branch_id] = parent.branch_id

    def drop(self, branch_id: int) -> None:
        """Forgets a branch; its children become its parent's."""
        parent = self._parents.pop(branch_id)
        for child, its_parent in self._parents.items():
            if its_parent == branch_id:
                self._parents[child] = parent

    def lines(self, branches: Iterable[BranchView]) -> list[Line]:
        """Returns the branches in the order of the tree, children below their parents."""
        by_id = {branch.branch_id: branch for branch in branches}
        roots = [number for number, parent in self._parents.items() if parent is None]
        return [line for root in roots for line in self._below(root, by_id, "", "")]

    def _below(
        self, number: int, by_id: dict[int, BranchView], lead: str, further: str
    ) -> Iterator[Line]:
        branch = by_id[number]
        parent = self._parents[number]
        # Either may have been taken back since, to before the place where they parted.
        shared = 0 if parent is None else _shared(branch.token_ids, by_id[parent].token_ids)
        tail = b"".join([step.bytes for step in branch.steps[shared:]])
        yield Line(number, lead, tail.decode("utf-8", "replace"))
        children = [child for child, its_parent in self._parents.items() if its_parent == number]
        for child in children:
            last = child == children[-1]
            yield from self._below(
                child,
                by_id,
                further + ("└─ " if last else "├─ "),
                further + ("   " if last else "│  "),
            )


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two branches begin with alike."""
    pairs = enumerate(zip(ids, others, strict=False))
    return next((i for i, (mine, other) in pairs if mine != other), min(len(ids), len(others)))
