"""Two distributions over the same tokens, step by step: what is asked for, and what is compared.

Knows which sessions a contrast needs, which tokens they get, and what the steps say together. Does
not know how sessions are driven, which is why the sync and the asyncio contrast share it.
"""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nextok import actions, notebook
from nextok.candidates import Candidate
from nextok.divergence import divergence
from nextok.requests import logprob_options, sampling_params
from nextok.v1 import types_pb2 as types
from nextok.values import Step
from nextok.weighing import Settings, Weighed, weigh

_Bytes = builtins.bytes


@dataclass(frozen=True, slots=True)
class ContrastCandidate:
    """A token that could come next, as both sides see it.

    Attributes:
        id: Id in the vocabulary.
        token: Its text. Bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: The tokenizer's own bytes for it.
        logprob: Log probability in the raw distribution of the first side.
        other_logprob: In that of the other.
        prob: Probability that the first side's settings leave it, 0 where they cut it.
        other_prob: That the other's do.
    """

    id: int
    token: str
    bytes: _Bytes
    logprob: float
    other_logprob: float
    prob: float
    other_prob: float


@dataclass(frozen=True, slots=True)
class ContrastStep:
    """One token on both sides, and how far apart the distributions were that it came from.

    Attributes:
        index: Number of the step, from 0.
        id: Id of the token.
        token: Its text. Bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: The tokenizer's own bytes for it.
        logprob: Its log probability in the raw distribution of the first side.
        other_logprob: In that of the other.
        prob: Probability that the first side's settings leave it, 0 where they cut it.
        other_prob: That the other's do.
        kl: Kullback-Leibler divergence, after the settings, of the first side from the other, in
            nats; infinite where the other cut a token that the first has.
        reverse_kl: Of the other side from the first.
        js: Jensen-Shannon divergence, in nats; at most ln 2.
        entropy: Entropy of the raw distribution of the first side.
        other_entropy: Of that of the other.
        candidates: The likeliest tokens of both, those with the highest `prob` first.
    """

    index: int
    id: int
    token: str
    bytes: _Bytes
    logprob: float
    other_logprob: float
    prob: float
    other_prob: float
    kl: float
    reverse_kl: float
    js: float
    entropy: float
    other_entropy: float
    candidates: tuple[ContrastCandidate, ...]

    def _repr_html_(self) -> str:
        return notebook.contrast_candidates(self)


class Lockstep:
    """A contrast, so far.

    Args:
        prompts: Of the first side and of the other.
        settings: Of the first side and of the other.
        continuation: Tokens or a text to follow; None: the first side draws them.
        max_tokens: How many to draw.
        seed: Of the draws.
        top_logprobs: How many of the likeliest tokens of each side a step lists.

    Attributes:
        requests: What the sessions begin with: one where the prompts are the same.
        text: A continuation that has to be tokenized first.
        steps: Those that were made.
    """

    def __init__(
        self,
        prompts: tuple[str | Sequence[int], str | Sequence[int]],
        settings: tuple[Settings, Settings],
        *,
        continuation: str | Sequence[int] | None,
        max_tokens: int,
        seed: int | None,
        top_logprobs: int,
    ) -> None:
        self._settings = settings
        self._counts: Counter[int] = Counter()
        self.text = continuation if isinstance(continuation, str) else None
        self._given = continuation if not isinstance(continuation, str) else None
        self._most = max_tokens
        self.steps: list[ContrastStep] = []
        starts = prompts[:1] if prompts[0] == prompts[1] else prompts
        logprobs = logprob_options(top_logprobs=top_logprobs, full_vocabulary=True)
        self.requests = [
            actions.start(prompt, sampling=_params(side, seed), logprobs=logprobs)
            for prompt, side in zip(starts, settings, strict=False)
        ]

    def follow(self, token_ids: Sequence[int]) -> None:
        """Says which tokens `text` is made of."""
        self._given = token_ids

    @property
    def finished(self) -> bool:
        """Whether there is no step left to make."""
        given = self._given
        return len(self.steps) == (self._most if given is None else len(given))

    @property
    def next_id(self) -> int | None:
        """The token to follow; None where the first side draws it."""
        return None if self._given is None else self._given[len(self.steps)]

    def compare(self, steps: Sequence[Step]) -> ContrastStep:
        """Takes in the next token of each session, and returns what they say together."""
        mine, other = steps[0], steps[-1]
        weighed = [
            weigh(step.full_logprobs, side, self._counts)
            for step, side in zip((mine, other), self._settings, strict=True)
        ]
        apart = divergence(weighed[0], weighed[1])
        (prob,), (other_prob,) = (side.probs([mine.id]) for side in weighed)
        made = ContrastStep(
            index=len(self.steps),
            id=mine.id,
            token=mine.token,
            bytes=mine.bytes,
            logprob=mine.logprob,
            other_logprob=other.logprob,
            prob=prob,
            other_prob=other_prob,
            kl=apart.kl,
            reverse_kl=apart.reverse_kl,
            js=apart.js,
            entropy=mine.entropy,
            other_entropy=other.entropy,
            candidates=_candidates(mine, other, weighed),
        )
        self._counts[mine.id] += 1
        self.steps.append(made)
        return made

    def __repr__(self) -> str:
        state = "" if self.finished else ", not finished"
        return f"{len(self.steps)} steps{state}"

    def _repr_html_(self) -> str:
        return notebook.contrast(self.steps)


def _params(settings: Settings, seed: int | None) -> types.SamplingParams:
    return sampling_params(
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        min_p=settings.min_p,
        presence_penalty=settings.presence_penalty,
        frequency_penalty=settings.frequency_penalty,
        logit_bias=settings.logit_bias,
        seed=seed,
    )


def _candidates(
    mine: Step, other: Step, weighed: Sequence[Weighed]
) -> tuple[ContrastCandidate, ...]:
    found: dict[int, Candidate] = {c.id: c for c in (*mine.top_logprobs, *other.top_logprobs)}
    probs, other_probs = (side.probs(found) for side in weighed)
    listed = [
        ContrastCandidate(
            c.id,
            c.token,
            c.bytes,
            mine.full_logprobs[c.id],
            other.full_logprobs[c.id],
            prob,
            other_prob,
        )
        for c, prob, other_prob in zip(found.values(), probs, other_probs, strict=True)
    ]
    return tuple(sorted(listed, key=lambda c: max(c.prob, c.other_prob), reverse=True))


def plan(
    prompt: str | Sequence[int],
    *,
    other_prompt: str | Sequence[int] | None,
    settings: Settings | None,
    other_settings: Settings | None,
    continuation: str | Sequence[int] | None,
    max_tokens: int,
    seed: int | None,
    top_logprobs: int,
) -> Lockstep:
    """Fills in what the other side has in common with the first.

    Raises:
        ValueError: They have everything in common, or `max_tokens` is negative.
    """
    if max_tokens < 0:
        raise ValueError(f"max_tokens: is {max_tokens}, the least is 0")
    mine = settings or Settings()
    theirs = other_settings or mine
    other = prompt if other_prompt is None else other_prompt
    if mine == theirs and prompt == other:
        raise ValueError("nothing to contrast: give other_prompt or other_settings")
    return Lockstep(
        (prompt, other),
        (mine, theirs),
        continuation=continuation,
        max_tokens=max_tokens,
        seed=seed,
        top_logprobs=top_logprobs,
    )
