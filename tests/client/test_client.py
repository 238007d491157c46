"""What Client and AsyncClient give: one suite, run on both."""

import math
from array import array

import pytest
from google.protobuf import json_format
from support.fake_service import (
    SENTENCE,
    FakeService,
    Hold,
    first,
    generation,
    last,
    serving,
    step,
)

from nextok import (
    FinishReason,
    Internal,
    NotFound,
)
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types


async def test_a_text_becomes_tokens_with_ids_bytes_and_places(hands, target, service):
    async with hands.open(target) as client:
        tokens = await hands.get(client.tokenize(SENTENCE))
    assert service.requests == [pb.TokenizeRequest(text=SENTENCE)]
    assert tokens.ids == (40, 1842, 2980, 876, 9552)
    assert [token.token for token in tokens] == ["I", " love", " Gener", "ative", " AI"]
    assert b"".join(token.bytes for token in tokens) == SENTENCE.encode()
    assert (tokens[1].byte_start, tokens[1].byte_end) == (1, 6)
    assert (tokens[1].char_start, tokens[1].char_end) == (1, 6)


async def test_tokens_become_text_and_bytes(hands, target, service):
    async with hands.open(target) as client:
        result = await hands.get(client.detokenize([40, 1842]))
    assert service.requests == [pb.DetokenizeRequest(token_ids=[40, 1842])]
    assert (result.text, result.bytes, result.tokens.ids) == ("I love", b"I love", (40, 1842))


async def test_the_model_tells_sizes_limits_and_its_certificate(hands, target):
    async with hands.open(target) as client:
        model = await hands.get(client.get_model())
    assert (model.name, model.layers, model.context_length) == ("demo", 6, 1024)
    assert model.eos_token_ids == (50256,)
    assert model.limits.max_stop == 16
    assert model.capabilities == ("score", "prefix_reuse")
    assert model.certificate.comparisons[0].mean_kl == 0.001


@pytest.mark.parametrize(("healthy", "status"), [(True, "SERVING"), (False, "NOT_SERVING")])
async def test_health_tells_whether_the_server_is_ready(hands, healthy, status):
    with serving(FakeService(), healthy=healthy) as target:
        async with hands.open(target) as client:
            assert await hands.get(client.health()) == status


async def test_health_of_a_service_that_is_not_there_is_not_found(hands, target):
    async with hands.open(target) as client:
        with pytest.raises(NotFound):
            await hands.get(client.health("no.such.Service"))


async def test_steps_come_in_order_and_their_deltas_are_the_text(hands, target):
    async with hands.open(target) as client:
        running = client.generate(SENTENCE, top_logprobs=2)
        steps = await hands.all(running)
    assert [s.index for s in steps] == [0, 1, 2]
    assert "".join(s.delta for s in steps) == running.text == " and it."
    assert running.steps == tuple(steps)
    assert steps[0].logprob == pytest.approx(math.log(0.5))
    assert [c.token for c in steps[0].top_logprobs] == [" and", "."]
    assert steps[0].allowed_mass is None


async def test_the_end_tells_reason_usage_and_timings(hands, target):
    async with hands.open(target) as client:
        running = client.generate(SENTENCE)
        assert running.finish is None
        assert running.summary is None
        await hands.all(running)
    assert running.finish.finish_reason is FinishReason.LENGTH
    assert running.finish.stop is None
    assert running.finish.digest == "ab" * 32
    assert running.summary.usage.prompt_tokens == 5
    assert running.summary.timings.decode_seconds == 0.1


@pytest.mark.parametrize("matched", [{"stop": "\n"}, {"stop_token_id": 0}, {"eos_token_id": 9}])
async def test_what_ended_a_completion_is_named_even_where_it_is_zero(
    hands, target, service, matched
):
    reason = types.FINISH_REASON_STOP
    end = pb.GenerateResponse(finish=types.Finish(finish_reason=reason, **matched))
    service.script = [first(), end]
    async with hands.open(target) as client:
        running = client.generate("x")
        await hands.all(running)
    told = {
        name: getattr(running.finish, name) for name in ("stop", "stop_token_id", "eos_token_id")
    }
    assert {name: value for name, value in told.items() if value is not None} == matched
    assert running.finish.finish_reason is FinishReason.STOP


async def test_the_prompt_is_there_before_the_first_step(hands, target, service):
    service.script = [first(), Hold()]
    async with hands.open(target) as client, hands.inside(client.generate(SENTENCE)) as running:
        prompt = await hands.get(running.start())
        assert prompt.tokens.ids == (40, 1842, 2980, 876, 9552)
        assert (prompt.seed, prompt.max_tokens) == (7, 1019)
        assert running.prompt is prompt
        assert running.steps == ()


async def test_steps_that_share_a_message_are_handed_out_one_by_one(hands, target, service):
    together = pb.GenerateResponse(steps=[step(0, "a"), step(1, "b"), step(2, "c")])
    service.script = [first(), together, last(3)]
    async with hands.open(target) as client:
        running = client.generate("x")
        seen = [(s.token, running.text) async for s in hands.each(running)]
    assert seen == [("a", "a"), ("b", "ab"), ("c", "abc")]


async def test_many_messages_that_wait_to_be_read_all_arrive(hands, target, service):
    service.script = list(generation(*["x"] * 500))
    async with hands.open(target) as client:
        running = client.generate("x")
        await hands.get(running.start())
        steps = await hands.all(running)
    assert len(steps) == 500
    assert running.summary is not None


async def test_the_prompts_own_log_probabilities_have_none_for_the_first_token(
    hands, target, service
):
    scored = [
        types.ScoredToken(position=0, id=40, token="I"),
        types.ScoredToken(position=1, id=1842, token=" love", logprob=-2.0, rank=3, surprisal=2.0),
    ]
    service.script = [first(), pb.GenerateResponse(prompt_logprobs=scored), last(0)]
    async with hands.open(target) as client:
        running = client.generate(SENTENCE, prompt_logprobs=True)
        await hands.all(running)
    assert [(t.logprob, t.rank) for t in running.prompt_logprobs] == [(None, None), (-2.0, 3)]
    assert running.prompt_logprobs[1].continuation is None


async def test_the_full_vocabulary_comes_as_an_array_of_floats(hands, target, service):
    wide = step(0, "a")
    wide.full_logprobs.extend([-0.5 * i for i in range(50257)])
    service.script = [first(), pb.GenerateResponse(steps=[wide]), last(1)]
    async with hands.open(target) as client:
        (only,) = await hands.all(client.generate("x", full_vocabulary=True))
    assert isinstance(only.full_logprobs, array)
    assert only.full_logprobs.tolist() == [-0.5 * i for i in range(50257)]


async def test_a_message_larger_than_grpcs_default_limit_is_received(hands, target, service):
    wide = step(0, "a")
    wide.full_logprobs.extend([-1.0] * 50257)
    message = pb.GenerateResponse(steps=[wide] * 24)
    assert message.ByteSize() > 4 * 1024 * 1024
    service.script = [first(), message, last(24)]
    async with hands.open(target) as client:
        assert len(await hands.all(client.generate("x", full_vocabulary=True))) == 24


async def test_the_next_token_is_a_distribution_from_which_nothing_is_drawn(hands, target, service):
    async with hands.open(target) as client:
        result = await hands.get(client.next_token(SENTENCE, top_k=5, top_logprobs=2))
    (request,) = service.requests
    assert request.stop_conditions.max_tokens == 1
    assert (request.logprobs.top_logprobs, request.sampling.top_k) == (2, 5)
    assert [c.token for c in result.top_logprobs] == [" and", "."]
    assert result.position == 5
    assert not hasattr(result, "token")


async def test_a_stream_without_a_step_has_no_next_token(hands, target, service):
    service.script = [first(), last(0)]
    async with hands.open(target) as client:
        with pytest.raises(Internal, match="without a step"):
            await hands.get(client.next_token("x"))


async def test_a_stream_without_a_prompt_is_an_error_where_the_prompt_is_wanted(
    hands, target, service
):
    service.script = []
    async with hands.open(target) as client:
        with pytest.raises(Internal, match="without a prompt"):
            await hands.get(client.generate("x").start())


async def test_every_option_of_generate_reaches_the_server_in_its_field(hands, target, service):
    async with hands.open(target) as client:
        running = client.generate(
            [1, 2],
            temperature=0.5,
            top_k=1,
            top_p=0.75,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=-0.5,
            frequency_penalty=2.0,
            logit_bias={3: -100.0},
            seed=2**64 - 1,
            max_tokens=4,
            min_tokens=5,
            stop=["a", "b"],
            stop_token_ids=[6],
            ignore_eos=True,
            top_logprobs=7,
            logprob_token_ids=[8],
            full_vocabulary=True,
            prompt_logprobs=True,
            bypass_prefix_reuse=True,
            drafts=False,
            json_schema={"type": "null"},
            resume_token_ids=[9],
        )
        await hands.all(running)
    assert service.requests == [
        pb.GenerateRequest(
            prompt=types.Prompt(token_ids=types.TokenIds(ids=[1, 2])),
            sampling=types.SamplingParams(
                temperature=0.5,
                top_k=1,
                top_p=0.75,
                min_p=0.25,
                repetition_penalty=1.5,
                presence_penalty=-0.5,
                frequency_penalty=2.0,
                logit_bias={3: -100.0},
                seed=2**64 - 1,
            ),
            stop_conditions=types.StopConditions(
                max_tokens=4, min_tokens=5, stop=["a", "b"], stop_token_ids=[6], ignore_eos=True
            ),
            logprobs=types.LogprobOptions(top_logprobs=7, token_ids=[8], full_vocabulary=True),
            prompt_logprobs=True,
            bypass_prefix_reuse=True,
            drafts=False,
            constraint=types.Constraint(json_schema='{"type": "null"}'),
            resume_token_ids=[9],
        )
    ]


async def test_an_option_that_is_not_given_is_absent_and_zero_is_not(hands, target, service):
    async with hands.open(target) as client:
        await hands.all(client.generate("x"))
        await hands.all(client.generate("x", temperature=0, top_k=0, seed=0, top_logprobs=0))
    absent, zero = (
        json_format.MessageToDict(r, preserving_proto_field_name=True) for r in service.requests
    )
    assert absent["sampling"] == {}
    assert zero["sampling"] == {"temperature": 0.0, "top_k": 0, "seed": "0"}
    assert zero["logprobs"] == {"top_logprobs": 0}


async def test_the_client_says_who_it_is(hands, target, service):
    async with hands.open(target) as client:
        await hands.get(client.get_model())
    assert service.metadata[0]["user-agent"].startswith("nextok-python/")
