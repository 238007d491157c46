"""What a sweep can go over, and what a curve is drawn along.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from nextok.bench.settings import Settings


@dataclass(frozen=True, slots=True)
class Axis:
    """Something that settings can be swept over.

    Attributes:
        name: In names of files.
        label: For people.
        value: Its value in a run's settings; None where the run has none.
        logarithmic: Whether it grows by factors.
    """

    name: str
    label: str
    value: Callable[[Settings], float | None]
    logarithmic: bool


STREAMS: Final = Axis("streams", "streams", lambda settings: settings.streams, True)
REQUEST_RATE: Final = Axis(
    "request_rate", "requests a second", lambda settings: settings.request_rate, False
)
CONTEXT: Final = Axis("context", "tokens of the prompt", lambda settings: settings.context, False)
AXES: Final = (STREAMS, REQUEST_RATE, CONTEXT)


def swept_over(settings: Iterable[Settings]) -> list[Axis]:
    """Returns the axes that have two or more values: those that a curve can be drawn along."""
    every = list(settings)
    return [axis for axis in AXES if len({axis.value(one) for one in every} - {None}) > 1]
