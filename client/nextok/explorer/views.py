"""What the explorer's panes show: values into text with colours.

Knows rich and widths. Knows no keys and no sessions. Whatever a colour says is said without it as
well: the screen has to be read where NO_COLOR is set.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Sequence

from rich.text import Text

from nextok.candidates import Candidate
from nextok.cli import looks
from nextok.explorer.family import Line
from nextok.formatting import percent, percent_of_logprob, quoted
from nextok.tokens import TextToken
from nextok.values import Distribution, Step

_TOKEN_WIDTH = 15
# Mark, rank, token, two percentages, and the gaps between them all.
_FIXED_WIDTH = 2 + 3 + 1 + _TOKEN_WIDTH + 2 * 8 + 3


def text(prompt: Iterable[TextToken], steps: Iterable[Step]) -> Text:
    """Shows a branch: the prompt dimmed, each token behind it shaded by its surprisal."""
    shown = Text(overflow="fold", no_wrap=False)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in prompt:
        shown.append(looks.clean(decoder.decode(token.bytes)), "dim")
    for step in steps:
        shown.append(looks.clean(decoder.decode(step.bytes)), looks.shade(step.surprisal))
    shown.append(looks.clean(decoder.decode(b"", final=True)))
    shown.append("▏", "bold")
    return shown


def candidates(listed: Sequence[Candidate], selected: int, width: int, height: int) -> Text:
    """Shows what could come next: one line a token, its probability raw and after the filters.

    Args:
        listed: Most likely first.
        selected: Which one is chosen; the lines around it are shown where not all fit.
        width: Of the pane.
        height: Of the pane.
    """
    bar_width = max(4, (width - _FIXED_WIDTH) // 2)
    head = f"{'':5} {'token':<{_TOKEN_WIDTH}} {'model':>7} {'':<{bar_width}} {'sampler':>8}"
    shown = Text(overflow="crop", no_wrap=True)
    shown.append(_fit(head, width), "dim")
    room = max(1, height - 1)
    first = min(max(0, selected - room // 2), max(0, len(listed) - room))
    most = max((c.logprob for c in listed), default=0.0)
    most_prob = max((c.prob for c in listed), default=0.0)
    for place, c in enumerate(listed[first : first + room], first):
        chosen = place == selected
        token = _fit(quoted(c.token), _TOKEN_WIDTH)
        shown.append(f"\n{'▸' if chosen else ' '} {c.rank:>3} ", "bold" if chosen else "")
        shown.append(f"{token:<{_TOKEN_WIDTH}} ", "bold" if chosen else "")
        shown.append(f"{percent_of_logprob(c.logprob):>7} ")
        shown.append(f"{looks.bar(math.exp(c.logprob - most), bar_width):<{bar_width}} ", "cyan")
        share = c.prob / most_prob if most_prob else 0.0
        shown.append(f"{percent(c.prob) if c.kept else 'cut':>7} ")
        shown.append(looks.bar(share, bar_width), "magenta")
    return shown


def tree(lines: Sequence[Line], current: int, width: int, height: int) -> Text:
    """Shows the branches, children below their parents, the current one marked."""
    place = next((i for i, line in enumerate(lines) if line.branch_id == current), 0)
    first = min(max(0, place - height // 2), max(0, len(lines) - height))
    shown = Text(overflow="crop", no_wrap=True)
    for line in lines[first : first + height]:
        mark = "▸" if line.branch_id == current else " "
        start = f"{mark}{line.lead}{line.branch_id} "
        told = _fit_end(looks.clean(line.tail).replace("\n", "⏎"), width - len(start))
        style = "bold" if line.branch_id == current else ""
        shown.append(f"{start}", style)
        shown.append(f"{told}\n", style if told.strip() else "dim")
    shown.right_crop(1)
    return shown


def numbers(distribution: Distribution, steps: Sequence[Step]) -> Text:
    """Tells of what could come next, and of the token that came last, in a line each."""
    shown = Text(overflow="ellipsis", no_wrap=True)
    shown.append(f"entropy {distribution.entropy:.2f} nats", "bold")
    shown.append(
        f"   as {math.exp(distribution.entropy):.1f} equally likely tokens   "
        f"all others {percent(distribution.tail_mass)}"
    )
    if not steps:
        return shown.append("\nno token yet: enter picks the one that is marked", "dim")
    last = steps[-1]
    shown.append(f"\nsurprisal {last.surprisal:.2f} nats", "bold")
    how = "given" if last.forced else "drawn"
    shown.append(
        f"   {_fit(quoted(last.token), 20)} {how}, {percent_of_logprob(last.logprob)}, "
        f"rank {last.rank}"
    )
    return shown


def _fit(shown: str, width: int) -> str:
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _fit_end(shown: str, width: int) -> str:
    if width < 2:
        return ""
    return shown if len(shown) <= width else "…" + shown[1 - width :]
