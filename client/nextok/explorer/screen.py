"""The explorer on the screen: panes and keys.

Knows textual. What the panes show is in `views`, what keys do to the session in `steering`. That
is done one after the other, apart from the keys, so that the screen answers while the server
computes.
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
from nextok.explorer.help import Help
from nextok.explorer.steering import Steering
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
        self._orders: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._client: AsyncClient | None = None
        self._steering: Steering | None = None

    @property
    def session(self) -> AsyncSession:
        """What is stepped through, once it has begun."""
        assert self._steering is not None
        return self._steering.session

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

    def _steer(self, work: Callable[[Steering], Awaitable[None]]) -> None:
        def when_open() -> Awaitable[None]:
            assert self._steering is not None
            return work(self._steering)

        self._order(when_open)

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
            if self._steering is not None:
                self.branches = self._steering.session.branches
            if self._client is not None:
                await self._client.close()

    async def _open(self) -> None:
        self._client = self._connect()
        model = await self._client.get_model()
        session = self._begin(self._client)
        await session.start()
        self._steering = Steering(
            self._client, session, model, lambda why: self.notify(why, severity="warning")
        )

    # What keys do.

    def action_choose(self, by: int) -> None:
        """Moves the mark."""
        if self._steering is not None:
            self._steering.choose(by)
            self._show()

    def action_pick(self) -> None:
        """Appends the candidate that is marked."""
        self._steer(Steering.pick)

    def action_sample(self, count: int) -> None:
        """Appends tokens that the server draws."""
        self._steer(lambda steering: steering.sample(count))

    def action_rewind(self) -> None:
        """Takes the last token off."""
        self._steer(Steering.rewind)

    def action_fork(self) -> None:
        """Makes a copy of the branch, and goes on with the copy."""
        self._steer(Steering.fork)

    def action_branch(self, number: int) -> None:
        """Goes to a branch by its number."""
        self._steer(lambda steering: steering.switch(number))

    def action_next_branch(self, by: int) -> None:
        """Goes to the next branch in the tree."""
        self._steer(lambda steering: steering.next_branch(by))

    def action_drop(self) -> None:
        """Gives the branch up."""
        self._steer(Steering.drop)

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
            self._steer(lambda steering: steering.force(text))

    def action_help(self) -> None:
        """Shows what the screen shows and what keys do."""
        self.push_screen(Help())

    async def action_quit(self) -> None:
        """Leaves."""
        self.exit()

    # What is shown.

    def _show(self) -> None:
        steering = self._steering
        if steering is None or not self.is_running:
            return
        branch, session = steering.branch, steering.session
        self._put("#head", _head(steering.model, branch))
        self._put("#written", views.text(session.prompt.tokens, branch.steps))
        self.query_one("#text", VerticalScroll).scroll_end(animate=False)
        listed = branch.distribution.top_logprobs
        size = self.query_one("#candidates").content_size
        self._put("#candidates", views.candidates(listed, steering.marked, *size))
        lines = steering.family.lines(session.branches)
        size = self.query_one("#tree").content_size
        self._put("#tree", views.tree(lines, branch.branch_id, *size))
        self._put("#numbers", views.numbers(branch.distribution, branch.steps))

    def _put(self, pane: str, text: Text) -> None:
        self.query_one(pane, Static).update(text)


def _head(model: Model, branch: AsyncBranch) -> Text:
    return Text.assemble(
        (" nextok step ", "bold reverse"),
        f"  {model.name} {model.precision}",
        f"   branch {branch.branch_id}   {branch.distribution.position} of "
        f"{model.context_length} tokens",
    )
