"""Several completions of one prompt: what each of them is, and the seed that it is drawn with.

Knows the rule of nextok.v1's GenerateRequest.n. Does not know how steps arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nextok.values import Finish, PromptInfo, Step


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several completions of a prompt, as far as it was read.

    Attributes:
        choice: Its number, from 0.
        seed: Of its draws: a request for one completion with this seed gives the same bits. None
            before the prompt has come.
        steps: Its steps that were read so far.
        text: Their text, without the prompt.
        finish: Why it ended; None before that.
    """

    choice: int
    seed: int | None
    steps: tuple[Step, ...]
    text: str
    finish: Finish | None


def choice_seed(seed: int, choice: int) -> int:
    """Returns the seed of a completion, given the request's."""
    return (seed + choice) % 2**64


def sort_out(
    count: int, prompt: PromptInfo | None, steps: Iterable[Step], finishes: Mapping[int, Finish]
) -> tuple[Choice, ...]:
    """Returns `count` completions whose steps came mixed."""
    sorted_out: list[list[Step]] = [[] for _ in range(count)]
    for step in steps:
        sorted_out[step.choice].append(step)
    return tuple(
        Choice(
            number,
            None if prompt is None else choice_seed(prompt.seed, number),
            tuple(own),
            "".join([step.delta for step in own]),
            finishes.get(number),
        )
        for number, own in enumerate(sorted_out)
    )
