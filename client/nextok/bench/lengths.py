"""How many tokens a prompt or a completion has: a number, or a distribution to draw from.

Pure: the randomness is the caller's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

FORMS: Final = "N, LOW:HIGH or lognormal:MEDIAN,SIGMA,LOW,HIGH"
MOST: Final = 1_000_000  # far past any context; keeps a typing error from filling the memory
_LOGNORMAL: Final = "lognormal:"


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of whole numbers from `low` to `high`, both included.

    Uniform, or, with `median` and `sigma`, log-normal: the logarithm is normal around that of
    the median with a standard deviation of `sigma`; what falls outside is moved to the bound.
    """

    low: int
    high: int
    median: float | None = None
    sigma: float | None = None

    def draw(self, random: Random) -> int:
        """Draws one length."""
        if self.low == self.high:
            return self.low
        if self.median is None or self.sigma is None:
            return random.randint(self.low, self.high)
        length = random.lognormvariate(math.log(self.median), self.sigma)
        return round(min(max(length, self.low), self.high))

    def __str__(self) -> str:
        """Returns the text that `parse_lengths` reads."""
        if self.median is not None:
            return f"{_LOGNORMAL}{self.median:g},{self.sigma:g},{self.low},{self.high}"
        return str(self.low) if self.low == self.high else f"{self.low}:{self.high}"


def parse_lengths(text: str) -> Lengths:
    """Reads lengths in one of the FORMS.

    Raises:
        ValueError: The text has another form, or a number is out of its range.
    """
    if text.startswith(_LOGNORMAL):
        parts = text.removeprefix(_LOGNORMAL).split(",")
        if len(parts) != 4:
            raise ValueError(f"{text!r} is not {FORMS}")
        lengths = Lengths(
            _whole(parts[2], text),
            _whole(parts[3], text),
            _positive(parts[0], text),
            _positive(parts[1], text),
        )
    else:
        low, colon, high = text.partition(":")
        lengths = Lengths(_whole(low, text), _whole(high if colon else low, text))
    if lengths.low > lengths.high:
        raise ValueError(f"{text!r} begins at {lengths.low} and ends before that")
    return lengths


def _whole(part: str, text: str) -> int:
    try:
        number = int(part)
    except ValueError:
        raise ValueError(f"{text!r} is not {FORMS}") from None
    if not 1 <= number <= MOST:
        raise ValueError(f"{number} in {text!r} is not from 1 to {MOST}")
    return number


def _positive(part: str, text: str) -> float:
    try:
        number = float(part)
    except ValueError:
        raise ValueError(f"{text!r} is not {FORMS}") from None
    if not 0 < number <= MOST:  # NaN is neither
        raise ValueError(f"{part} in {text!r} is not over 0 and at most {MOST}")
    return number
