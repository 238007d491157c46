"""What if another token had come at one place? The likeliest ways on from there, side by side.

python examples/what_if.py "Once upon a time there was" 6

Follows the likeliest tokens for so many steps, and forks there: one branch for each of the five
likeliest candidates. All branches go on together, as one batch on the server.

Needs `pip install nextok` and a server, by default localhost:50051 (NEXTOK_TARGET says where).
"""

from __future__ import annotations

import math
import os
import sys

from nextok import Branch, Client, Session


def what_if(session: Session, at: int, *, ways: int = 5, tokens: int = 12) -> list[Branch]:
    """Forks behind `at` tokens, one branch for each of the likeliest candidates there.

    Args:
        session: At its beginning.
        at: How many tokens to follow before.
        ways: How many candidates to try; `top_logprobs` of the session has to be as many.
        tokens: How many tokens each branch gets behind its candidate.

    Returns:
        The branches, that of the likeliest candidate first.
    """
    trunk = session.branch
    if at:
        trunk.sample(at)
    candidates = trunk.distribution.top_logprobs[:ways]
    branches = [trunk.fork() for _ in candidates]
    session.force_all({b: [c.id] for b, c in zip(branches, candidates, strict=True)})
    session.sample_all(tokens, branches=branches)
    return branches


def main(prompt: str, at: str = "0") -> None:
    """Shows the ways on."""
    with (
        Client(os.environ.get("NEXTOK_TARGET", "localhost:50051")) as client,
        client.interact(prompt, temperature=0, top_logprobs=5) as session,
    ):
        branches = what_if(session, int(at))
        print(prompt + session.branch.text)
        for branch in branches:
            here, *rest = branch.steps[int(at) :]
            text = b"".join([step.bytes for step in rest]).decode(errors="replace")
            logprob = sum(step.logprob for step in rest)
            print(
                f"{math.exp(here.logprob):8.2%}  {here.token!r:<12} {text!r} ({logprob:.1f} nats)"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
