"""Two prompts, or two settings, in lockstep: through either client, from a service with rules."""

import asyncio
import math

import grpc
import numpy as np
import pytest
from support.fake_interact import PROMPT, TOKENS, FakeInteract, probabilities
from support.fake_service import Refuse

import nextok
from nextok import Settings

OTHER = " was there"


@pytest.fixture
def service():
    return FakeInteract()


def kl(p, q):
    p, q = np.array(p), np.array(q)
    return float(np.sum(p * np.log(p / q)))


async def test_each_step_compares_what_both_prompts_make_likely(hands, target):
    async with hands.open(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER, max_tokens=4, top_logprobs=3)
        steps = await hands.all(running)
    assert [step.id for step in steps] == [3, 4, 5, 6]
    mine, other = [0, 1, 2], [6, 5]
    for step in steps:
        p, q = probabilities(mine), probabilities(other)
        middle = (np.array(p) + np.array(q)) / 2
        assert step.kl == pytest.approx(kl(p, q), rel=1e-5)
        assert step.reverse_kl == pytest.approx(kl(q, p), rel=1e-5)
        assert step.js == pytest.approx((kl(p, middle) + kl(q, middle)) / 2, rel=1e-5)
        assert step.prob == pytest.approx(p[step.id], rel=1e-5)
        assert step.other_prob == pytest.approx(q[step.id], rel=1e-5)
        assert step.other_logprob == pytest.approx(math.log(q[step.id]), rel=1e-5)
        likeliest = {*sorted(range(10), key=lambda i: -p[i])[:3]}
        assert likeliest <= {c.id for c in step.candidates}
        for candidate in step.candidates:
            assert candidate.other_prob == pytest.approx(q[candidate.id], rel=1e-5)
        mine.append(step.id)
        other.append(step.id)
    assert running.steps == tuple(steps)


async def test_settings_are_compared_on_one_session(hands, target, service):
    async with hands.open(target) as client:
        running = client.contrast(
            PROMPT,
            settings=Settings(temperature=0.5),
            other_settings=Settings(top_k=2, presence_penalty=1.0),
            max_tokens=2,
            seed=3,
        )
        first, second = await hands.all(running)
    assert len([a for a in service.actions if a.HasField("start")]) == 1
    sampling = service.actions[0].start.sampling
    assert (sampling.temperature, sampling.seed) == (0.5, 3)
    p = np.array(probabilities([0, 1, 2])) ** 2
    assert first.prob == pytest.approx(p[3] / p.sum(), rel=1e-5)
    assert first.other_prob == pytest.approx(2 / 3, rel=1e-5)
    assert first.kl == math.inf
    assert first.reverse_kl < 1
    assert second.id == 4


async def test_what_was_appended_is_penalized(hands, target):
    options = {"other_settings": Settings(presence_penalty=100.0), "continuation": [3, 4]}
    async with hands.open(target) as client:
        steps = await hands.all(client.contrast(PROMPT, **options))
    by_id = {c.id: c for c in steps[1].candidates}
    assert by_id[3].other_prob < 1e-30
    assert by_id[3].prob > 1e-4


async def test_a_given_continuation_is_followed_on_both_sides(hands, target, service):
    async with hands.open(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER, continuation=[9, 0, 9])
        steps = await hands.all(running)
    assert [step.id for step in steps] == [9, 0, 9]
    assert not [a for a in service.actions if a.HasField("sample")]


async def test_a_text_to_follow_is_tokenized_by_the_server(hands, target):
    async with hands.open(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER, continuation=" time\n")
        assert [step.id for step in await hands.all(running)] == [3, 9]


async def test_what_is_the_same_on_both_sides_is_refused(hands, target):
    async with hands.open(target) as client:
        with pytest.raises(ValueError, match="nothing to contrast"):
            client.contrast(PROMPT)
        with pytest.raises(ValueError, match="nothing to contrast"):
            client.contrast(PROMPT, other_prompt=PROMPT, settings=Settings(top_k=3))
        with pytest.raises(ValueError, match="max_tokens: is -1"):
            client.contrast(PROMPT, other_prompt=OTHER, max_tokens=-1)


async def test_errors_are_raised_while_it_is_read(hands, target, service):

    service.refuse_at[1] = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    async with hands.open(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER)
        with pytest.raises(nextok.ResourceExhausted):
            await hands.next(running)


@pytest.mark.parametrize("way", ["with", "close", "end"])
async def test_its_calls_end_with_it(hands, target, service, way):
    async with hands.open(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER, max_tokens=3)
        await hands.next(running)
        if way == "with":
            async with hands.inside(running):
                pass
        if way == "end":
            assert len(await hands.all(running)) == 2
        if way != "close":
            assert await asyncio.to_thread(service.given_up.wait, 10)
    assert await asyncio.to_thread(service.given_up.wait, 10)


async def test_a_notebook_shows_tokens_and_divergences(hands, target):
    async with hands.open(target) as client:
        running = client.contrast(PROMPT, other_prompt=OTHER, max_tokens=2)
        steps = await hands.all(running)
    assert f"{steps[1].js:.4f}" in running._repr_html_()
    assert "rgba(" in running._repr_html_()
    assert "&#x27; time&#x27;" in steps[0]._repr_html_()
    assert len(TOKENS) == len(steps[0].candidates)
    assert "2 steps>" in repr(running)
