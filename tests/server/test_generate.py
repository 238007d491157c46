"""What a Generate stream says, checked against torch and NumPy in float64."""

import math

import numpy as np
import pytest
from support.serving import generate

from nextok.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED_PROMPT = "I love Generative AI"
SEED_IDS = [40, 1842, 2980, 876, 9552]


async def test_the_first_message_holds_the_prompts_tokens(fp32_server):
    reply = await generate(fp32_server, SEED_PROMPT, max_tokens=1, seed=7)
    tokens = reply.prompt.tokens
    assert [token.id for token in tokens] == SEED_IDS
    assert b"".join(token.bytes for token in tokens).decode() == SEED_PROMPT
    assert [(t.byte_start, t.byte_end) for t in tokens] == [
        (0, 1),
        (1, 6),
        (6, 12),
        (12, 17),
        (17, 20),
    ]
    assert reply.prompt.seed == 7
    assert not reply.messages[0].steps


async def test_the_first_message_names_the_artifact_as_get_model_does(fp32_server, int8_server):
    named = []
    for server in (fp32_server, int8_server):
        reply = await generate(server, SEED_PROMPT, max_tokens=1)
        model = await server.stub.GetModel(pb.GetModelRequest())
        assert reply.prompt.artifact_sha256 == model.artifact_sha256
        named.append(model.artifact_sha256)
    assert named[0] != named[1]


async def test_every_step_equals_torch(fp32_server, torch_logprobs):
    reply = await generate(
        fp32_server,
        SEED_PROMPT,
        max_tokens=20,
        temperature=1.0,
        seed=3,
        top_logprobs=5,
        full_vocabulary=True,
        token_ids=[0, 50256],
    )
    expected = torch_logprobs(SEED_IDS + reply.ids)
    for index, step in enumerate(reply.steps):
        row = expected[len(SEED_IDS) + index - 1]
        probabilities = np.exp(row)
        assert np.abs(np.array(step.full_logprobs) - row).max() < 1e-4
        assert step.logprob == pytest.approx(row[step.id], abs=1e-4)
        assert step.surprisal == -step.logprob
        assert step.entropy == pytest.approx(-(probabilities * row).sum(), abs=1e-4)
        order = np.argsort(-row, kind="stable")
        assert step.rank == pytest.approx(1 + int((row > row[step.id]).sum()), abs=3)
        assert [c.id for c in step.top_logprobs] == order[:5].tolist()
        assert [c.rank for c in step.top_logprobs] == [1, 2, 3, 4, 5]
        mass = probabilities[order[:5]].sum()
        assert step.top_mass == pytest.approx(mass, abs=1e-4)
        assert step.tail_mass == pytest.approx(1 - mass, abs=1e-4)
        assert step.margin == pytest.approx(row[order[0]] - row[order[1]], abs=1e-4)
        assert [c.id for c in step.token_logprobs] == [0, 50256]
        for candidate in (*step.top_logprobs, *step.token_logprobs):
            assert candidate.logprob == pytest.approx(row[candidate.id], abs=1e-4)
            assert candidate.prob == pytest.approx(probabilities[candidate.id], rel=1e-3)
            assert candidate.kept


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 100, 127])
async def test_prompt_logprobs_equal_torch_at_every_chunk_border(
    fp32_server, torch_logprobs, length
):
    ids = np.random.default_rng(length).integers(0, 50257, length).tolist()
    reply = await generate(fp32_server, ids, max_tokens=1, prompt_logprobs=True, temperature=0)
    expected = torch_logprobs(ids)
    scores = reply.prompt_logprobs
    assert [score.position for score in scores] == list(range(length))
    assert [score.id for score in scores] == ids
    assert not scores[0].HasField("logprob")
    for score in scores[1:]:
        row = expected[score.position - 1]
        assert score.logprob == pytest.approx(row[score.id], abs=1e-4)
        assert score.entropy == pytest.approx(-(np.exp(row) * row).sum(), abs=1e-4)
        assert score.context_tokens == score.position
    assert reply.steps[0].logprob == pytest.approx(expected[-1].max(), abs=1e-4)


async def test_whole_vocabularies_of_a_long_prompt_come_in_messages_of_bounded_size(fp32_server):
    reply = await generate(
        fp32_server, list(range(128)), prompt_logprobs=True, full_vocabulary=True
    )
    assert [score.position for score in reply.prompt_logprobs] == list(range(128))
    assert all(len(score.full_logprobs) == 50257 for score in reply.prompt_logprobs[1:])
    assert max(message.ByteSize() for message in reply.messages) < 4 << 20


async def test_asking_for_prompt_logprobs_does_not_change_the_steps(int8_server):
    ids = list(range(100, 230 - 30))
    plain = await generate(int8_server, ids, max_tokens=8, seed=1)
    scored = await generate(int8_server, ids, max_tokens=8, seed=1, prompt_logprobs=True)
    assert plain.bits == scored.bits


async def test_greedy_takes_the_most_likely_token_each_time(fp32_server):
    reply = await generate(fp32_server, SEED_PROMPT, max_tokens=10, temperature=0, top_logprobs=2)
    for step in reply.steps:
        assert step.rank == 1
        assert step.id == step.top_logprobs[0].id
        assert (step.prob, step.top_logprobs[0].prob, step.top_logprobs[1].prob) == (1, 1, 0)
        assert not step.top_logprobs[1].kept


async def test_prob_is_what_the_sampler_used_and_logprob_stays_raw(fp32_server):
    plain = await generate(fp32_server, SEED_PROMPT, max_tokens=1, seed=5, top_logprobs=8)
    cut = await generate(
        fp32_server, SEED_PROMPT, max_tokens=1, seed=5, top_logprobs=8, top_k=4, temperature=0.5
    )
    raw = [candidate.logprob for candidate in plain.steps[0].top_logprobs]
    assert [candidate.logprob for candidate in cut.steps[0].top_logprobs] == raw
    scaled = np.exp(np.array(raw[:4], np.float64) / 0.5)
    probs = [candidate.prob for candidate in cut.steps[0].top_logprobs]
    assert probs[:4] == pytest.approx((scaled / scaled.sum()).tolist(), rel=1e-5)
    assert probs[4:] == [0, 0, 0, 0]
    assert [c.kept for c in cut.steps[0].top_logprobs] == [True] * 4 + [False] * 4


async def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(int8_server):
    first = await generate(int8_server, SEED_PROMPT, max_tokens=12, seed=11)
    again = await generate(int8_server, SEED_PROMPT, max_tokens=12, seed=11)
    other = await generate(int8_server, SEED_PROMPT, max_tokens=12, seed=12)
    assert first.bits == again.bits
    assert first.finish.digest == again.finish.digest
    assert first.ids != other.ids
    assert first.finish.digest != other.finish.digest


async def test_a_seed_is_picked_and_told_where_none_is_given(fp32_server):
    first = await generate(fp32_server, SEED_PROMPT, max_tokens=8)
    again = await generate(fp32_server, SEED_PROMPT, max_tokens=8, seed=first.prompt.seed)
    assert first.bits == again.bits


async def test_max_tokens_ends_with_length_and_everything_is_counted(fp32_server):
    reply = await generate(fp32_server, SEED_PROMPT, max_tokens=6, ignore_eos=True)
    assert len(reply.steps) == 6
    assert [step.index for step in reply.steps] == list(range(6))
    assert reply.finish.finish_reason == 2
    assert reply.usage.prompt_tokens == 5
    assert reply.usage.completion_tokens == reply.finish.completion_tokens == 6
    timings = reply.messages[-1].summary.timings
    assert min(timings.queue_seconds, timings.prefill_seconds, timings.decode_seconds) >= 0
    elapsed = [step.elapsed_seconds for step in reply.steps]
    assert elapsed == sorted(elapsed)


async def test_a_full_context_ends_with_context_after_its_last_place_was_used(fp32_server):
    ids = list(range(120))
    reply = await generate(fp32_server, ids, ignore_eos=True)
    assert reply.finish.finish_reason == 3
    assert len(reply.steps) == 128 - 120 + 1 == reply.prompt.max_tokens


async def test_a_prompt_as_long_as_the_context_yields_one_token(fp32_server, torch_logprobs):
    ids = np.random.default_rng(0).integers(0, 50257, 128).tolist()
    reply = await generate(fp32_server, ids, temperature=0)
    assert reply.finish.finish_reason == 3
    (step,) = reply.steps
    assert step.logprob == pytest.approx(torch_logprobs(ids)[-1].max(), abs=1e-4)


async def test_the_end_of_text_token_ends_a_completion_without_text(fp32_server):
    reply = await generate(fp32_server, SEED_PROMPT, max_tokens=5, logit_bias={50256: 100.0})
    (step,) = reply.steps
    assert (step.id, step.delta) == (50256, "")
    assert reply.finish.finish_reason == 1
    assert reply.finish.eos_token_id == 50256


async def test_min_tokens_keeps_end_and_stop_tokens_from_being_chosen(fp32_server):
    reply = await generate(
        fp32_server,
        SEED_PROMPT,
        max_tokens=9,
        min_tokens=4,
        logit_bias={50256: 100.0, 11: 90.0},
        stop_token_ids=[11],
    )
    assert len(reply.steps) == 5
    assert not {50256, 11} & set(reply.ids[:4])
    assert reply.ids[4] == 50256


async def test_ignore_eos_goes_on(fp32_server):
    reply = await generate(
        fp32_server, SEED_PROMPT, max_tokens=5, logit_bias={50256: 100.0}, ignore_eos=True
    )
    assert reply.ids == [50256] * 5
    assert reply.text == "<|endoftext|>" * 5


async def test_a_stop_token_ends_a_completion_and_is_named(fp32_server):
    reply = await generate(
        fp32_server, SEED_PROMPT, max_tokens=5, logit_bias={11: 100.0}, stop_token_ids=[11]
    )
    assert reply.ids == [11]
    assert reply.text == ""
    assert reply.finish.WhichOneof("matched") == "stop_token_id"
    assert reply.finish.stop_token_id == 11


async def test_a_stop_string_over_token_borders_ends_the_text_before_it(fp32_server):
    # 198 is a newline, 11 a comma: the only two tokens that bias lets through, as good as even.
    reply = await generate(
        fp32_server,
        SEED_PROMPT,
        max_tokens=60,
        seed=1,
        logit_bias={198: 100.0, 11: 100.0},
        temperature=100.0,
        top_k=2,
        stop=[",\n,", "never"],
    )
    assert reply.finish.WhichOneof("matched") == "stop"
    assert reply.finish.stop == ",\n,"
    whole = "".join({198: "\n", 11: ","}[token_id] for token_id in reply.ids)
    assert whole.endswith(",\n,")
    assert reply.text == whole[: whole.index(",\n,")]


async def test_text_that_only_begins_like_a_stop_string_is_released_at_the_end(fp32_server):
    reply = await generate(
        fp32_server, SEED_PROMPT, max_tokens=3, logit_bias={11: 100.0}, stop=[",,,,,,,,"]
    )
    assert reply.text == ",,,"
    assert [step.delta for step in reply.steps] == ["", "", ",,,"]


async def test_characters_split_over_tokens_arrive_whole_with_true_bytes(fp32_server):
    text = "\N{GRINNING FACE}\u65e5"
    ids = [token.id for token in (await generate(fp32_server, text, max_tokens=1)).prompt.tokens]
    assert len(ids) > 2
    # Each token in turn is the only one that bias lets through, the ones before it forced.
    deltas, data = [], b""
    for index, token_id in enumerate(ids):
        reply = await generate(
            fp32_server,
            "x",
            resume_token_ids=ids[:index],
            max_tokens=index + 1,
            logit_bias={token_id: 100.0},
            min_p=1.0,
            ignore_eos=True,
        )
        (step,) = reply.steps
        data += step.bytes
        deltas.append(step.delta)
    assert data.decode() == text
    # The last step of each request flushes what is incomplete, which shows as U+FFFD.
    assert deltas[ids.index(ids[-1])] == text[-1]
    whole = await generate(
        fp32_server,
        "x",
        resume_token_ids=ids[:-1],
        max_tokens=len(ids) + 1,
        logit_bias={ids[-1]: 100.0},
        top_k=1,
        ignore_eos=True,
    )
    assert whole.steps[0].delta == text[-1]


async def test_a_resumed_stream_goes_on_with_the_same_bits_and_digest(int8_server):
    options = {"max_tokens": 24, "seed": 9, "stop": ["\x00"], "frequency_penalty": 0.5}
    whole = await generate(int8_server, SEED_PROMPT, **options)
    for received in (0, 1, 5, 23):
        rest = await generate(
            int8_server, SEED_PROMPT, resume_token_ids=whole.ids[:received], **options
        )
        assert rest.bits == whole.bits[received:]
        assert rest.text == "".join(step.delta for step in whole.steps[received:])
        assert rest.finish.digest == whole.finish.digest
        assert rest.usage.completion_tokens == 24


async def test_text_that_is_held_when_a_stream_breaks_is_let_out_after_it_as_before(int8_server):
    face = "\N{GRINNING FACE}"
    parts = [t.id for t in (await generate(int8_server, face, max_tokens=1)).prompt.tokens]
    options = {
        "max_tokens": 40,
        "seed": 4,
        "temperature": 100.0,
        "logit_bias": dict.fromkeys([*parts, 11, 13], 100.0),
        "top_k": len(parts) + 2,
        "stop": [",.,,.", f",{face}", "\ufffd\ufffd,,,"],
        "ignore_eos": True,
    }
    whole = await generate(int8_server, SEED_PROMPT, **options)
    assert len(parts) > 1
    assert [step.delta for step in whole.steps].count("") > 5
    for received in range(len(whole.ids) + 1):
        rest = await generate(
            int8_server, SEED_PROMPT, resume_token_ids=whole.ids[:received], **options
        )
        assert [s.delta for s in rest.steps] == [s.delta for s in whole.steps[received:]]
        assert rest.finish == whole.finish


async def test_resuming_a_finished_completion_gives_only_its_end(int8_server):
    whole = await generate(int8_server, SEED_PROMPT, max_tokens=6, seed=2, ignore_eos=True)
    rest = await generate(
        int8_server, SEED_PROMPT, max_tokens=6, seed=2, ignore_eos=True, resume_token_ids=whole.ids
    )
    assert rest.steps == []
    assert rest.finish.digest == whole.finish.digest


async def test_penalties_make_a_repeated_token_less_likely(fp32_server):
    options = {"max_tokens": 12, "temperature": 0.0, "logit_bias": {11: 30.0, 198: 29.5}}
    plain = await generate(fp32_server, SEED_PROMPT, ignore_eos=True, **options)
    held = await generate(
        fp32_server, SEED_PROMPT, ignore_eos=True, frequency_penalty=1.0, **options
    )
    assert len(set(held.ids)) > len(set(plain.ids)) or held.ids.count(198) > plain.ids.count(198)


async def test_no_number_in_a_reply_is_nan_or_infinite(fp32_server):
    reply = await generate(
        fp32_server,
        SEED_PROMPT,
        max_tokens=6,
        temperature=0.01,
        top_p=0.1,
        min_p=0.5,
        top_logprobs=64,
        token_ids=[1, 2],
        logit_bias={5: -100.0},
    )
    for step in reply.steps:
        numbers = [
            step.logprob,
            step.prob,
            step.entropy,
            step.top_mass,
            step.tail_mass,
            step.margin,
        ]
        numbers += [c.logprob for c in step.top_logprobs] + [c.prob for c in step.top_logprobs]
        assert all(math.isfinite(number) for number in numbers)
