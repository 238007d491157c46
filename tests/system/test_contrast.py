"""A contrast through a real server, against torch and NumPy in float64, from both clients."""

import math

import numpy as np
import pytest

from nextok import AsyncClient, Client, Settings

PROMPT, OTHER = "The king said", "The queen said"


def kl(logp, logq):
    return float(np.sum(np.exp(logp) * (logp - logq)))


async def test_divergences_of_two_prompts_are_those_that_torch_gives(target, torch_logprobs):
    with Client(target) as client:
        steps = list(client.contrast(PROMPT, other_prompt=OTHER, max_tokens=6, seed=1))
        prompts = [client.tokenize(prompt).ids for prompt in (PROMPT, OTHER)]
    async with AsyncClient(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER, max_tokens=6, seed=1)
        assert [step async for step in running] == steps
    ids = [step.id for step in steps]
    mine, other = (torch_logprobs([*prompt, *ids])[len(prompt) - 1 :] for prompt in prompts)
    for step, logp, logq in zip(steps, mine, other, strict=False):
        middle = np.logaddexp(logp, logq) - math.log(2)
        assert step.kl == pytest.approx(kl(logp, logq), rel=1e-3, abs=1e-6)
        assert step.reverse_kl == pytest.approx(kl(logq, logp), rel=1e-3, abs=1e-6)
        js = (kl(logp, middle) + kl(logq, middle)) / 2
        assert step.js == pytest.approx(js, rel=1e-3, abs=1e-6)
        assert step.other_logprob == pytest.approx(logq[step.id], abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_k": 12},
        {"top_p": 0.02, "min_p": 0.1},
        {"presence_penalty": 1.5, "frequency_penalty": 0.5, "logit_bias": {11: 3.0}},
    ],
    ids=str,
)
def test_what_is_drawn_from_here_is_what_the_server_draws_from(target, settings):
    with (
        Client(target) as client,
        client.interact(PROMPT, top_logprobs=20, seed=1, **settings) as session,
    ):
        contrast = client.contrast(
            PROMPT, settings=Settings(**settings), other_settings=Settings(), max_tokens=5, seed=1
        )
        for step in contrast:
            known = {c.id: c.prob for c in session.branch.distribution.top_logprobs}
            shared = [c for c in step.candidates if c.id in known]
            assert len(shared) >= 10
            for candidate in shared:
                assert candidate.prob == pytest.approx(known[candidate.id], rel=1e-4, abs=1e-9)
            # The same seed draws the same tokens.
            assert session.branch.sample()[0].id == step.id
