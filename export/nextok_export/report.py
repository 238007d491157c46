"""What a person sees while an export works.

Knows rich. On a terminal a spinner shows the stage at work; elsewhere each stage is one plain
line when it is done. NO_COLOR is honoured.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass
class Stage:
    """A stage at work.

    Attributes:
        name: what it makes.
        result: what came out and how large it is; set by `done`.
    """

    name: str
    _update: Callable[[str], None]
    result: str = ""

    def tell(self, doing: str) -> None:
        """Says what is being done at the moment."""
        self._update(doing)

    def done(self, result: str) -> None:
        """Says what came out."""
        self.result = result


class Report:
    """Tells of stages as they go."""

    def __init__(self, console: Console | None = None) -> None:
        """Writes to a console; to none where it is None."""
        self._console = console

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Frames a stage. Its line is written when the stage has ended well."""
        started = time.monotonic()
        with self._spinner(name) as update:
            stage = Stage(name, update)
            yield stage
        self._print(
            f"[green]✓[/] [bold]{name:<12}[/] {escape(stage.result)} "
            f"[dim]{time.monotonic() - started:.1f} s[/]"
        )

    def summary(self, manifest: dict[str, Any], certificate: dict[str, Any]) -> None:
        """Tables of the files and of the certificate's figures."""
        if self._console is None:
            return
        self._console.print(_files(manifest))
        self._console.print(_figures(certificate))

    def _print(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _spinner(self, name: str) -> AbstractContextManager[Callable[[str], None]]:
        if self._console is None or not self._console.is_terminal:
            return nullcontext(lambda _: None)
        return _status(self._console, name)


@contextmanager
def _status(console: Console, name: str) -> Iterator[Callable[[str], None]]:
    with console.status(name) as status:
        yield lambda doing: status.update(f"{name}: {escape(doing)}")


def size(count: int) -> str:
    """A number of bytes for people, in powers of ten."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"


def _files(manifest: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE, title=f"{escape(manifest['model_name'])}, {manifest['precision']}")
    table.add_column("file")
    table.add_column("size", justify="right")
    table.add_column("SHA-256", no_wrap=True)
    for name, file in manifest["files"].items():
        table.add_row(name, size(file["bytes"]), file["sha256"][:16] + "…")
    return table


def _figures(certificate: dict[str, Any]) -> Table:
    label = "approximate" if certificate["approximate"] else "exact to 1e-4"
    title = f"certificate: {certificate['positions']:,} positions, {label}"
    table = Table(box=SIMPLE, pad_edge=False, title=title)
    for name in ("scenario", "vs"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "max |Δ|", "KL", "top 1", "top 10", "ppl"):
        table.add_column(name, justify="right", no_wrap=True)
    for c in certificate["comparisons"]:
        table.add_row(
            c["scenario"],
            c["reference"],
            f"{c['positions']}",
            f"{c['max_abs_logprob_difference']:.1e}",
            f"{c['mean_kl']:.1e}",
            f"{100 * c['top1_agreement']:.2f}",
            f"{100 * c['top10_agreement']:.2f}",
            f"{c['perplexity']:.4g}",
        )
    return table
