"""Streams that break and are gone on with: one suite, run on both clients."""

import dataclasses
import threading
from contextlib import ExitStack

import grpc
import pytest
from support.broken_streams import IDS, SCORED, STEPS, WHOLE, behind, prompt, steps
from support.fake_service import (
    ARTIFACT,
    LOST,
    PATIENCE_SECONDS,
    FakeService,
    Hold,
    Refuse,
    first,
    last,
    serving,
)

from nextok import ArtifactChanged, Internal, Unavailable
from nextok.v1 import text_generation_pb2 as pb


def all_but_time(generation):
    return [dataclasses.replace(step, elapsed_seconds=0.0) for step in generation.steps]


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize(
    ("sent", "tokens"),
    [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 2), (6, 3), (7, 4)],
    ids=["before the prompt", "after it", "amid its scores", "before the first step"]
    + [f"after step {index}" for index in range(4)],
)
async def test_a_stream_that_breaks_goes_on_as_if_nothing_had_happened(
    hands, target, service, sent, tokens
):
    service.script = WHOLE
    whole = await hands.read(target)
    service.scripts = [[*WHOLE[:sent], LOST], behind(tokens)]
    running = await hands.read(target)
    assert all_but_time(running) == all_but_time(whole)
    assert running.prompt_logprobs == whole.prompt_logprobs
    assert running.text == " a\u65e5!"
    assert (running.prompt, running.finish) == (whole.prompt, whole.finish)
    assert running.summary == whole.summary
    assert (whole.resumed, running.resumed) == (0, 1)


@pytest.mark.parametrize("drafts", [False, True])
async def test_what_is_sent_again_has_the_tokens_seed_and_drafts_and_else_the_same(
    hands, target, service, drafts
):
    told = first()
    told.prompt.drafts = drafts
    service.scripts = [[told, *WHOLE[1:5], LOST], behind(2)]
    await hands.read(target, temperature=0.7, stop=["\n"], max_tokens=4)
    before, after = service.requests
    assert not before.sampling.HasField("seed")
    assert not before.HasField("drafts")
    assert after.HasField("drafts")
    assert after.drafts is drafts
    assert (after.sampling.seed, list(after.resume_token_ids)) == (7, IDS[:2])
    after.sampling.ClearField("seed")
    after.ClearField("resume_token_ids")
    after.ClearField("drafts")
    assert after == before


async def test_tokens_that_were_given_from_the_start_stay_in_front(hands, target, service):
    service.scripts = [[first(), *steps(*STEPS[1:3]), LOST], [first(), *steps(STEPS[3]), last(4)]]
    running = await hands.read(target, resume_token_ids=IDS[:1], seed=5)
    assert [s.id for s in running.steps] == IDS[1:]
    assert list(service.requests[1].resume_token_ids) == IDS[:3]


async def test_steps_that_came_in_one_message_and_are_not_read_yet_are_not_asked_for_again(
    hands, target, service
):
    together = pb.GenerateResponse(steps=STEPS[:3])
    service.scripts = [[first(), together, LOST], behind(3)]
    async with hands.open(target) as client:
        running = client.generate("x")
        seen = [(s.id, len(running.steps)) async for s in hands.each(running)]
    assert seen == list(zip(IDS, [1, 2, 3, 4], strict=True))
    assert list(service.requests[1].resume_token_ids) == IDS[:3]


async def test_prompt_scores_that_break_off_again_are_not_given_twice(hands, target, service):
    service.scripts = [
        [*WHOLE[:2], LOST],
        [first(), prompt(*SCORED[:1]), LOST],
        [first(), prompt(*SCORED[:2]), prompt(*SCORED[2:4]), LOST],
        behind(0),
    ]
    running = await hands.read(target)
    assert [score.position for score in running.prompt_logprobs] == [0, 1, 2, 3, 4]
    assert [s.id for s in running.steps] == IDS


async def test_a_stream_that_breaks_after_every_token_comes_through(hands, target, service):
    service.scripts = [[*behind(count)[:3], LOST] for count in range(4)]
    service.script = behind(4)
    running = await hands.read(target, resume=1)
    assert [s.id for s in running.steps] == IDS
    assert running.finish.digest == "ab" * 32
    assert running.resumed == 4


async def test_a_status_that_is_lost_behind_the_last_message_is_not_missed(hands, target, service):
    service.script = [*WHOLE, LOST]
    running = await hands.read(target, resume=0)
    assert running.summary is not None
    assert len(service.requests) == 1


async def test_the_next_token_comes_over_a_break_as_well(hands, target, service):
    service.scripts = [[first(), LOST], [first(), *steps(STEPS[0]), last(1)]]
    async with hands.open(target) as client:
        distribution = await hands.get(client.next_token("x"))
    assert distribution.top_logprobs[0].id == IDS[0]


async def test_times_of_steps_go_on_from_the_first_request(hands, target, service):
    service.scripts = [[*WHOLE[:6], LOST], behind(3)]
    running = await hands.read(target)
    told = [message.elapsed_seconds for message in STEPS]
    times = [s.elapsed_seconds for s in running.steps]
    assert times[:3] == told[:3]
    assert times[3] > told[3]


# What must not be joined.


async def test_a_server_of_another_artifact_is_never_gone_on_with(hands, target, service):
    other = first()
    other.prompt.artifact_sha256 = "cc" * 32
    service.scripts = [[*WHOLE[:5], LOST]]
    service.script = [other, *steps(STEPS[2]), Hold()]
    async with hands.open(target) as client:
        running = client.generate("x")
        with pytest.raises(ArtifactChanged) as caught:
            await hands.all(running)
        assert service.given_up.wait(PATIENCE_SECONDS)
    text = str(caught.value)
    assert "broke after 2 tokens" in text
    assert text.index("cc" * 32) < text.index(ARTIFACT)
    assert [s.id for s in running.steps] == IDS[:2]


async def test_another_artifact_may_begin_where_nothing_came_of_the_first(hands, target, service):
    other = first()
    other.prompt.artifact_sha256 = "cc" * 32
    service.scripts = [[LOST], [other, *behind(0)[1:]]]
    running = await hands.read(target)
    assert running.prompt.artifact_sha256 == "cc" * 32
    assert [s.id for s in running.steps] == IDS


async def test_nothing_is_put_behind_a_server_that_did_not_name_its_artifact(
    hands, target, service
):
    unnamed = first()
    unnamed.prompt.artifact_sha256 = ""
    service.script = [unnamed, *steps(STEPS[0]), LOST]
    async with hands.open(target) as client:
        with pytest.raises(Unavailable):
            await hands.all(client.generate("x"))
    assert len(service.requests) == 1


async def test_a_server_that_goes_on_in_another_place_is_an_error(hands, target, service):
    service.script = [*WHOLE[:5], LOST]
    async with hands.open(target) as client:
        running = client.generate("x")
        with pytest.raises(Internal, match="go on with step 2, and sent step 0"):
            await hands.all(running)
    assert [s.id for s in running.steps] == IDS[:2]


# Other servers.


@pytest.mark.parametrize("options", [[], [("grpc.lb_policy_name", "pick_first")]], ids=str)
async def test_another_server_of_the_list_takes_over(hands, options):
    services = [FakeService(script=[*WHOLE[:4], Hold()]) for _ in range(2)]
    with ExitStack() as one, ExitStack() as two:
        stacks = [one, two]
        addresses = [
            stack.enter_context(serving(service))
            for stack, service in zip(stacks, services, strict=True)
        ]
        async with hands.open(f"ipv4:{','.join(addresses)}", options=options) as client:
            running = client.generate("x", prompt_logprobs=True)
            await hands.next(running)
            asked = next(number for number in (0, 1) if services[number].requests)
            services[1 - asked].script = behind(1)
            stopping = threading.Thread(target=stacks[asked].close)
            stopping.start()
            await hands.all(running)
            stopping.join()
    assert [s.id for s in running.steps] == IDS
    assert running.finish.digest == "ab" * 32
    assert len(services[asked].requests) == len(services[1 - asked].requests) == 1


async def test_a_server_that_takes_nothing_new_is_left_for_the_next_of_the_list(hands, monkeypatch):
    # Time for the connection to the other one, where this is the first.
    monkeypatch.setattr("nextok.attempts.FIRST_PAUSE_SECONDS", 0.05)
    stopping = FakeService(refusal=Refuse(grpc.StatusCode.UNAVAILABLE, "the server is stopping"))
    with serving(stopping) as one, serving(FakeService()) as other:
        async with hands.open(f"ipv4:{one},{other}") as client:
            while not stopping.requests:  # which of them is asked first is not for us to say
                running = client.generate("x")
                await hands.all(running)
    assert running.finish is not None
    assert running.resumed >= 1


async def test_a_call_that_a_stopping_server_cancels_is_made_again(hands, target, service):
    cancelled = Refuse(grpc.StatusCode.CANCELLED, "cancelled")
    service.scripts, service.script = [[cancelled], [cancelled]], WHOLE
    running = await hands.read(target)
    assert [s.id for s in running.steps] == IDS
    assert running.resumed == 2
