"""How probabilities and tokens are written for people, in a terminal and in a notebook alike.

Knows neither of the two.
"""

from __future__ import annotations

import math


def percent(probability: float) -> str:
    """Returns a probability as a percentage; tiny ones keep their size, as in 3.7e-06."""
    if 0 < probability < 5e-5:
        return f"{probability:.1e}"
    return f"{probability:.2%}"


def percent_of_logprob(logprob: float) -> str:
    """Returns a log probability as a percentage."""
    return percent(math.exp(logprob))


def quoted(text: str) -> str:
    """Returns text in quotes, with line ends and control characters as escapes."""
    return repr(text)


def tokens(count: int) -> str:
    """Returns a number of tokens, as in 1 token, 2 tokens."""
    return "1 token" if count == 1 else f"{count} tokens"
