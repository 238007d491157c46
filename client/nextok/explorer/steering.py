"""What keys do to a session, and which candidate is marked.

Knows the session. Does not know the screen.
"""

from __future__ import annotations

from collections.abc import Callable

from nextok.async_branch import AsyncBranch
from nextok.async_client import AsyncClient
from nextok.async_session import AsyncSession
from nextok.explorer.family import Family
from nextok.model import Model


class Steering:
    """A session in somebody's hands. One method at a time.

    Args:
        client: Whose session it is.
        session: Which has begun.
        model: That is served.
        warn: Told why something cannot be done.

    Attributes:
        family: Which branch was copied from which.
        marked: Place of the marked candidate.
    """

    def __init__(
        self,
        client: AsyncClient,
        session: AsyncSession,
        model: Model,
        warn: Callable[[str], None],
    ) -> None:
        self.session = session
        self.model = model
        self.family = Family()
        self.marked = 0
        self._client = client
        self._warn = warn
        self._draws = 0

    @property
    def branch(self) -> AsyncBranch:
        """The current one."""
        return self.session.branch

    def choose(self, by: int) -> None:
        """Moves the mark."""
        if self.session.summary is None:
            last = len(self.branch.distribution.top_logprobs) - 1
            self.marked = max(0, min(self.marked + by, last))

    async def pick(self) -> None:
        """Appends the candidate that is marked."""
        listed = self.branch.distribution.top_logprobs
        if self._has_room(1) and self.marked < len(listed):
            await self.branch.pick(listed[self.marked].id)
            self.marked = 0

    async def sample(self, count: int) -> None:
        """Appends tokens that the server draws."""
        if self._has_room(1):
            # One seed would draw the same token in the same place, undone or on a copy.
            seed = (self.session.prompt.seed + self._draws) % 2**64
            self._draws += 1
            await self.branch.sample(min(count, self._room), seed=seed)
            self.marked = 0

    async def force(self, text: str) -> None:
        """Appends a text."""
        # Known before they are sent: too many would end the session.
        ids = (await self._client.tokenize(text)).ids
        if self._has_room(len(ids)):
            await self.branch.force(ids)
            self.marked = 0

    async def rewind(self) -> None:
        """Takes the last token off."""
        if self.branch.steps:
            await self.branch.rewind(1)
            self.marked = 0

    async def fork(self) -> None:
        """Makes a copy of the branch, and goes on with the copy."""
        most = self.model.limits.max_branches
        if len(self.session.branches) >= most:
            self._warn(f"the server allows {most} branches")
            return
        parent = self.branch
        child = await parent.fork()
        self.family.fork(parent, child)
        await self.session.switch(child)

    async def switch(self, number: int) -> None:
        """Goes to a branch by its number."""
        for branch in self.session.branches:
            if branch.branch_id == number and branch != self.branch:
                await self.session.switch(branch)
                self.marked = 0

    async def next_branch(self, by: int) -> None:
        """Goes to the next branch in the tree."""
        order = [line.branch_id for line in self.family.lines(self.session.branches)]
        place = order.index(self.branch.branch_id)
        await self.switch(order[(place + by) % len(order)])

    async def drop(self) -> None:
        """Gives the branch up."""
        dropped = self.branch
        if len(self.session.branches) == 1:
            self._warn("this is the only branch")
            return
        await self.next_branch(-1)
        await dropped.drop()
        self.family.drop(dropped.branch_id)

    @property
    def _room(self) -> int:
        """How many more tokens the current branch can get."""
        return self.model.context_length - self.branch.distribution.position

    def _has_room(self, count: int) -> bool:
        if self._room < count:
            self._warn(f"the context has room for {self._room} more")
        return self._room >= count
