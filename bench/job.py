"""What a contender is asked to do, and what it answers.

Knows: prompts, times of arrival, and the figures that follow from them. Does not know: any
contender.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Abilities that only some contenders have. A job says what it needs; a runner what it offers.
DRAFTS, REUSE, SAMPLING = "drafts", "prefix reuse", "sampling"

CONTEXT_STEP = 64


@dataclass(frozen=True)
class Job:
    """Some prompts to continue at the same time.

    Attributes:
        prompts: Token ids, all prompts of one length.
        output_tokens: Tokens to generate for each; ends of text are ignored.
        temperature: 0 is greedy; anything else draws.
        drafts: Whether several tokens may be guessed and checked at once.
        reuse: Whether the state of tokens that prompts share may be reused.
        shared: How many first tokens all prompts share.
    """

    prompts: list[list[int]]
    output_tokens: int
    temperature: float = 0.0
    drafts: bool = False
    reuse: bool = False
    shared: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of each prompt."""
        return len(self.prompts[0])

    @property
    def needs(self) -> frozenset[str]:
        """Abilities without which the job cannot be done."""
        wanted = {DRAFTS: self.drafts, REUSE: self.reuse, SAMPLING: self.temperature != 0}
        return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


@dataclass(frozen=True)
class Outcome:
    """What came out of a job.

    Attributes:
        arrivals: For each prompt, when each token was there, in seconds after the start.
        tokens: For each prompt, the tokens.
    """

    arrivals: list[list[float]]
    tokens: list[list[int]]

    @classmethod
    def in_step(cls, times: Sequence[float], tokens: list[list[int]]) -> Outcome:
        """The outcome of a batch whose streams get their tokens together."""
        return cls([list(times) for _ in tokens], tokens)

    def check(self, job: Job) -> None:
        """Makes sure that the job was done.

        Raises:
            ValueError: A prompt got more or fewer tokens than were asked for.
        """
        for kind in (self.arrivals, self.tokens):
            counts = [len(stream) for stream in kind]
            if counts != [job.output_tokens] * len(job.prompts):
                raise ValueError(f"asked for {job.output_tokens} tokens a stream, got {counts}")

    def figures(self, job: Job) -> dict[str, float]:
        """Times in seconds, rates in tokens a second.

        `decode` counts the tokens after the last stream's first one, over the time that they
        took; `whole` counts everything, from the start.
        """
        firsts = [stream[0] for stream in self.arrivals]
        flat = [arrival for stream in self.arrivals for arrival in stream]
        begin, end = max(firsts), max(flat)
        found = {
            "first_token": statistics.median(firsts),
            "last_first_token": begin,
            "whole": len(flat) / end,
        }
        later = sum(arrival > begin for arrival in flat)
        if later:
            found["decode"] = later / (end - begin)
        return found | self._by_context(job)

    def _by_context(self, job: Job) -> dict[str, float]:
        """Rates over stretches of CONTEXT_STEP tokens, named by the context at their end."""
        found = {}
        for stop in range(CONTEXT_STEP, job.output_tokens, CONTEXT_STEP):
            start = stop - CONTEXT_STEP
            seconds = [stream[stop] - stream[start] for stream in self.arrivals]
            rate = CONTEXT_STEP * len(seconds) / statistics.mean(seconds)
            found[f"rate_at_{job.prompt_tokens + stop}"] = rate
        return found

    def agreement(self, reference: Outcome) -> float:
        """Share of the streams whose first token is the reference's."""
        pairs = zip(self.tokens, reference.tokens, strict=True)
        return statistics.mean(ours[0] == theirs[0] for ours, theirs in pairs)
