"""Beam search, made of branches: the server computes and forks, this file decides.

python examples/beam_search.py "Once upon a time" 4 12

Keeps the likeliest texts of each length, by their probability as a whole. All beams are computed
together, as one batch on the server, and what they share is never computed twice.

Needs `pip install nextok` and a server, by default localhost:50051 (NEXTOK_TARGET says where).
"""

from __future__ import annotations

import os
import sys

from nextok import Branch, Client, Session


def beam_search(session: Session, width: int, length: int) -> list[tuple[Branch, float]]:
    """Finds likely continuations.

    Args:
        session: At its beginning; its `top_logprobs` has to be at least `width`.
        width: How many texts are kept.
        length: How many tokens each gets.

    Returns:
        The branches with their log probabilities, the likeliest first.
    """
    beams = [(session.branch, 0.0)]
    for _ in range(length):
        # Where two are equally likely, the one found first is kept: the better beam's, then the
        # lower id.
        found = [
            (before + candidate.logprob, branch, candidate.id)
            for branch, before in beams
            for candidate in branch.distribution.top_logprobs[:width]
        ]
        found.sort(key=lambda one: one[0], reverse=True)
        beams = _go_on(session, [branch for branch, _ in beams], found[:width])
    return beams


def _go_on(
    session: Session, branches: list[Branch], best: list[tuple[float, Branch, int]]
) -> list[tuple[Branch, float]]:
    """Lets each of the best ones have a branch of its own, and appends its token there."""
    wanted = {parent for _, parent, _ in best}
    for branch in branches:
        if branch not in wanted:
            branch.drop()
    beams, tokens = [], {}
    for logprob, parent, token_id in best:
        # The first one that continues a branch takes it, the others take copies. Nothing is
        # appended before all copies are made.
        branch = parent.fork() if parent in tokens else parent
        tokens[branch] = [token_id]
        beams.append((branch, logprob))
    session.force_all(tokens)
    return beams


def main(prompt: str, width: str = "4", length: str = "12") -> None:
    """Shows the likeliest texts."""
    with (
        Client(os.environ.get("NEXTOK_TARGET", "localhost:50051")) as client,
        client.interact(prompt, top_logprobs=int(width)) as session,
    ):
        for branch, logprob in beam_search(session, int(width), int(length)):
            print(f"{logprob:8.3f}  {prompt + branch.text!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
