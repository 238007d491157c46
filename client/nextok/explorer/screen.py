"""The explorer on the screen: panes, keys, and what they do to the session.

Knows textual. What the panes show is in `views`. What is done to the session is done one after
the other, apart from the keys, so that the screen answers while the server computes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Input, Static

from nextok.async_branch import AsyncBranch
from nextok.async_client import AsyncClient
from nextok.async_session import AsyncSession
from nextok.errors import NextokError
from nextok.explorer import views
from nextok.explorer.family import Family
from nextok.explorer.help import Help
from nextok.model import Model

_SAMPLE_MANY = 10


class _Typed(Input):
    """The line to type in."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "append"),
        Binding("escape", "app.stop_typing", "leave it"),
    ]


class Explorer(App[None]):
    """A session to step through, in a terminal.

    Args:
        connect: Makes a client, in the event loop that it is called in.
        begin: Begins the session with it.

    Attributes:
        failure: What ended it, if something did.
        branches: Those that were there at the end.
    """

    CSS_PATH = "screen.tcss"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None  # keys are commands until somebody wants to type
    TITLE = "nextok step"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "pick", "pick"),
        Binding("up", "choose(-1)", "choose", key_display="↑↓"),
        Binding("down", "choose(1)", show=False),
        Binding("pageup", "choose(-10)", show=False),
        Binding("pagedown", "choose(10)", show=False),
        Binding("home", "choose(-1000000)", show=False),
        Binding("t", "type", "type"),
        Binding("s", "sample(1)", "sample"),
        Binding("S", f"sample({_SAMPLE_MANY})", show=False),
        Binding("u", "rewind", "undo"),
        Binding("f", "fork", "fork"),
        Binding("tab", "next_branch(1)", "branch", key_display="⇥", priority=True),
        Binding("shift+tab", "next_branch(-1)", show=False, priority=True),
        *[Binding(str(number), f"branch({number})", show=False) for number in range(10)],
        Binding("d", "drop", "drop"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q,ctrl+c", "quit", "quit", key_display="q"),
    ]

    def __init__(
        self,
        connect: Callable[[], AsyncClient],
        begin: Callable[[AsyncClient], AsyncSession],
    ) -> None:
        super().__init__()
        self._connect = connect
        self._begin = begin
        self.failure: Exception | None = None
        self.branches: tuple[AsyncBranch, ...] = ()
        self._family = Family()
        self._selected = 0
        self._draws = 0
        self._orders: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._session: AsyncSession | None = None
        self._client: AsyncClient | None = None
        self._model: Model | None = None

    def compose(self) -> ComposeResult:
        """The panes, from top to bottom."""
        yield Static(id="head")
        with VerticalScroll(id="text", can_focus=False):
            yield Static(id="written")
        with Horizontal(id="middle"):
            yield Static(id="candidates")
            yield Static(id="tree")
        yield Static(id="numbers")
        yield _Typed(placeholder="text to append", id="typed")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begins the session."""
        self.query_one("#text").border_title = "text"
        self.query_one("#candidates").border_title = "what could come next"
        self.query_one("#tree").border_title = "branches"
        self.query_one("#typed").display = False
        self._order(self._open)
        self.run_worker(self._work(), exit_on_error=True)

    def on_resize(self) -> None:
        """Fits what is shown to the new size."""
        self.call_after_refresh(self._show)

    async def settled(self) -> None:
        """Waits until everything that keys have asked for is done and shown."""
        await self._orders.join()

    # What is done to the session, one after the other.

    def _order(self, work: Callable[[], Awaitable[None]]) -> None:
        self._orders.put_nowait(work)

    async def _work(self) -> None:
        try:
            while True:
                work = await self._orders.get()
                try:
                    await work()
                    self._show()
                finally:
                    self._orders.task_done()
        except (NextokError, RuntimeError, ValueError) as error:
            self.failure = error
            self.exit()
        finally:
            if self._session is not None:
                self.branches = self._session.branches
            if self._client is not None:
                await self._client.close()

    async def _open(self) -> None:
        self._client = self._connect()
        self._model = await self._client.get_model()
        session = self._begin(self._client)
        await session.start()
        self._session = session

    @property
    def _current(self) -> AsyncBranch:
        assert self._session is not None
        return self._session.branch

    @property
    def _room(self) -> int:
        """How many more tokens the current branch can get."""
        assert self._model is not None
        return self._model.context_length - self._current.distribution.position

    async def _pick(self) -> None:
        listed = self._current.distribution.top_logprobs
        if self._has_room(1) and self._selected < len(listed):
            await self._current.pick(listed[self._selected].id)
            self._selected = 0

    async def _sample(self, count: int) -> None:
        if self._has_room(1):
            assert self._session is not None
            # One seed would draw the same token in the same place, undone or on a copy.
            seed = (self._session.prompt.seed + self._draws) % 2**64
            self._draws += 1
            await self._current.sample(min(count, self._room), seed=seed)
            self._selected = 0

    async def _force(self, text: str) -> None:
        assert self._client is not None
        # Known before they are sent: too many would end the session.
        ids = (await self._client.tokenize(text)).ids
        if self._has_room(len(ids)):
            await self._current.force(ids)
            self._selected = 0

    async def _rewind(self) -> None:
        if self._current.steps:
            await self._current.rewind(1)
            self._selected = 0

    async def _fork(self) -> None:
        assert self._session is not None
        assert self._model is not None
        most = self._model.limits.max_branches
        if len(self._session.branches) >= most:
            self.notify(f"the server allows {most} branches", severity="warning")
            return
        parent = self._current
        child = await parent.fork()
        self._family.fork(parent, child)
        await self._session.switch(child)

    async def _switch(self, number: int) -> None:
        assert self._session is not None
        for branch in self._session.branches:
            if branch.branch_id == number and branch != self._current:
                await self._session.switch(branch)
                self._selected = 0

    async def _next_branch(self, by: int) -> None:
        assert self._session is not None
        order = [line.branch_id for line in self._family.lines(self._session.branches)]
        place = order.index(self._current.branch_id)
        await self._switch(order[(place + by) % len(order)])

    async def _drop(self) -> None:
        assert self._session is not None
        dropped = self._current
        if len(self._session.branches) == 1:
            self.notify("this is the only branch", severity="warning")
            return
        await self._next_branch(-1)
        await dropped.drop()
        self._family.drop(dropped.branch_id)

    def _has_room(self, count: int) -> bool:
        if self._room < count:
            self.notify(f"the context has room for {self._room} more", severity="warning")
        return self._room >= count

    # What keys do.

    def action_choose(self, by: int) -> None:
        """Moves the mark."""
        if self._session is not None and self._session.summary is None:
            last = len(self._current.distribution.top_logprobs) - 1
            self._selected = max(0, min(self._selected + by, last))
            self._show()

    def action_pick(self) -> None:
        """Appends the candidate that is marked."""
        self._order(self._pick)

    def action_sample(self, count: int) -> None:
        """Appends tokens that the server draws."""
        self._order(lambda: self._sample(count))

    def action_rewind(self) -> None:
        """Takes the last token off."""
        self._order(self._rewind)

    def action_fork(self) -> None:
        """Makes a copy of the branch, and goes on with the copy."""
        self._order(self._fork)

    def action_branch(self, number: int) -> None:
        """Goes to a branch by its number."""
        self._order(lambda: self._switch(number))

    def action_next_branch(self, by: int) -> None:
        """Goes to the next branch in the tree."""
        self._order(lambda: self._next_branch(by))

    def action_drop(self) -> None:
        """Gives the branch up."""
        self._order(self._drop)

    def action_type(self) -> None:
        """Opens the line to type in."""
        typed = self.query_one("#typed", Input)
        typed.display = True
        typed.focus()

    def action_stop_typing(self) -> None:
        """Closes it."""
        typed = self.query_one("#typed", Input)
        typed.value = ""
        typed.display = False
        self.set_focus(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Appends what was typed."""
        text = event.value
        self.action_stop_typing()
        if text:
            self._order(lambda: self._force(text))

    def action_help(self) -> None:
        """Shows what the screen shows and what keys do."""
        self.push_screen(Help())

    async def action_quit(self) -> None:
        """Leaves."""
        self.exit()

    # What is shown.

    def _show(self) -> None:
        if self._session is None or self._model is None or not self.is_running:
            return
        branch = self._current
        self._put("#head", self._head(branch))
        self._put("#written", views.text(self._session.prompt.tokens, branch.steps))
        self.query_one("#text", VerticalScroll).scroll_end(animate=False)
        listed = branch.distribution.top_logprobs
        size = self.query_one("#candidates").content_size
        self._put("#candidates", views.candidates(listed, self._selected, *size))
        lines = self._family.lines(self._session.branches)
        size = self.query_one("#tree").content_size
        self._put("#tree", views.tree(lines, branch.branch_id, *size))
        self._put("#numbers", views.numbers(branch.distribution, branch.steps))

    def _head(self, branch: AsyncBranch) -> Text:
        assert self._model is not None
        position, length = branch.distribution.position, self._model.context_length
        return Text.assemble(
            (" nextok step ", "bold reverse"),
            f"  {self._model.name} {self._model.precision}",
            f"   branch {branch.branch_id}   {position} of {length} tokens",
        )

    def _put(self, pane: str, text: Text) -> None:
        self.query_one(pane, Static).update(text)
