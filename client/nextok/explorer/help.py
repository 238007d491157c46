"""What the explorer says of itself."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widgets import Static

_TEXT = """\
The likeliest next tokens, each with its probability in the
model's own distribution, and with the one that the sampler
gives it after temperature and filters; "cut" is what the
filters removed. The text is shaded by surprisal.

 ↑ ↓ page keys   choose a token
 enter           append it
 t               type text to append
 s  S            append a token, or ten, that are drawn
 u               take the last token off
 f               fork: a copy of the branch, to go on with
 tab  0-9        go to another branch
 d               drop the branch
 q               leave, and write the branches out

Any key goes back."""


class Help(ModalScreen[None]):
    """A page over the others, until a key is pressed."""

    def compose(self) -> ComposeResult:
        """The page."""
        yield Static(_TEXT, id="help", markup=False)

    def on_key(self) -> None:
        """Goes back."""
        self.dismiss()
