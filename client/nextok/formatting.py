"""How probabilities and tokens are written for people, in a terminal and in a notebook alike.

Knows neither of the two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextok.scores import ScoreTotal
    from nextok.trees import ExploreSummary

_ENDS = {"complete": ", complete", "nodes": ", cut off there", "seconds": ", cut off by time"}


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


def tree_line(summary: ExploreSummary) -> str:
    """Returns how a tree ended, as in 64 nodes, 21 expanded, leaves 39.80%, nodes."""
    nodes = "1 node" if summary.nodes == 1 else f"{summary.nodes} nodes"
    end = _ENDS.get(str(summary.end), "")
    return f"{nodes}, {summary.expanded} expanded, leaves {percent(summary.leaf_mass)}{end}"


def total_line(total: ScoreTotal) -> str:
    """Returns a text's score, as in 12 tokens, -34.56 nats, perplexity 17.81, not greedy."""
    parts = [tokens(total.scored_tokens), f"{total.logprob:.2f} nats"]
    if total.perplexity is not None:
        parts.append(f"perplexity {total.perplexity:.2f}")
    parts.append("greedy" if total.is_greedy else "not greedy")
    return ", ".join(parts)
