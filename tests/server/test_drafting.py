"""Drafts through a real server: the same text in fewer passes, told truly."""

import asyncio
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import pytest_asyncio
from support.checkpoints import export_artifact, make_checkpoint
from support.serving import generate, generate_request, running_server

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.model import Model

pytestmark = pytest.mark.asyncio(loop_scope="session")

PERIOD = [40, 1842, 2980, 876, 9552, 11]
REPETITIVE = PERIOD * 5


# Where there are few slots a draft is cheap, and there are many that fail.
SETTINGS = {"slots": 4, "max_queue": 100}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def few_slots(artifacts):
    async with running_server(artifacts["fp32"], **SETTINGS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def small_server(tmp_path_factory):
    """A model of one layer and 512 tokens, for tests that need many completions."""
    folder = tmp_path_factory.mktemp("small")
    checkpoint = make_checkpoint(folder / "checkpoint", layers=1, vocabulary=512)
    async with running_server(export_artifact(checkpoint, folder / "fp32"), **SETTINGS) as running:
        yield running


@pytest.fixture
def passes(monkeypatch):
    """The tokens that each call of the model computes for each sequence in it."""
    seen = []
    real, real_again = Model.forward, Model.again

    def count(self, chunks, *args, **kwargs):
        seen.extend(len(chunk.tokens) for chunk in chunks)
        return real(self, chunks, *args, **kwargs)

    def count_again(self, chooser, most, seconds):
        outputs = real_again(self, chooser, most, seconds)
        seen.extend([1] * len(outputs.entropy) * len(chooser.seconds))
        return outputs

    monkeypatch.setattr(Model, "forward", count)
    monkeypatch.setattr(Model, "again", count_again)
    return seen


def work(seed, count, length=40):
    """Prompts that repeat themselves more and less, with all kinds of sampling."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        period = rng.integers(0, 50257, 2 + index % 7).tolist()
        prompt = (period * length)[: 1 + int(rng.integers(length))]
        options = {"seed": index, "max_tokens": int(rng.integers(2, 50)), "ignore_eos": True}
        options["temperature"] = (0.0, 0.0, 1.0, 0.3)[index % 4]
        # Few tokens to choose from: what was drawn comes back, and not always in its order.
        if index % 4 >= 2:
            options["logit_bias"] = dict.fromkeys({*period, 5, 6}, 100.0)
        if index % 5 == 1:
            options |= {"repetition_penalty": 1.1, "frequency_penalty": 0.2}
        yield prompt, options


def assert_same_steps(ours, theirs):
    """Tokens up to the first place where rounding decides; numbers up to there."""
    for one, other in zip(ours.steps, theirs.steps, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4) or one.id != other.id
        if one.id != other.id:
            assert other.margin < 1e-5
            return
        assert one.index == other.index
        assert one.prob == pytest.approx(other.prob, abs=1e-4)
        assert one.entropy == pytest.approx(other.entropy, abs=1e-3)
        assert one.delta == other.delta
        pairs = zip(one.top_logprobs, other.top_logprobs, strict=True)
        assert all(abs(a.logprob - b.logprob) < 1e-4 for a, b in pairs)


async def test_greedy_text_and_its_probabilities_are_those_without_drafts(few_slots):
    accepted = 0
    for prompt, options in work(1, 16):
        options |= {"temperature": 0.0, "top_logprobs": 5}
        plain = await generate(few_slots, prompt, drafts=False, **options)
        drafted = await generate(few_slots, prompt, drafts=True, **options)
        assert_same_steps(drafted, plain)
        assert plain.usage.drafted_tokens == 0
        accepted += drafted.usage.accepted_draft_tokens
    assert accepted > 100


async def test_a_seed_draws_what_it_draws_without_drafts(few_slots):
    accepted = rejected = different = 0
    for prompt, options in work(2, 24):
        options["temperature"] = 1.0
        plain = await generate(few_slots, prompt, drafts=False, **options)
        drafted = await generate(few_slots, prompt, drafts=True, **options)
        # Rounding changes a draw where the random number is at a border: hardly ever.
        different += plain.ids != drafted.ids
        accepted += drafted.usage.accepted_draft_tokens
        rejected += drafted.usage.drafted_tokens - drafted.usage.accepted_draft_tokens
    assert different <= 1
    assert min(accepted, rejected) > 20


async def test_samples_are_distributed_as_those_without_drafts(small_server):
    """Chi-square over three tokens in a row, drawn from three that the model finds unlike."""
    options = {
        "max_tokens": 8,
        "temperature": 8.0,
        "logit_bias": {70: 100.0, 71: 100.0, 72: 100.0},
        "ignore_eos": True,
    }
    prompt = [70, 71, 72, 71, 70, 72, 71, 71, 70, 70, 71, 72]
    gate = asyncio.Semaphore(32)

    async def draw(seed, drafts):
        async with gate:
            return await generate(small_server, prompt, seed=seed, drafts=drafts, **options)

    count = 500
    on, off = [
        await asyncio.gather(*(draw(seed + count * drafts, drafts) for seed in range(count)))
        for drafts in (True, False)
    ]
    accepted = sum(reply.usage.accepted_draft_tokens for reply in on)
    assert accepted > count
    assert sum(reply.usage.drafted_tokens for reply in on) > 1.5 * accepted
    for start in (1, 4):
        cells = [Counter(tuple(r.ids[start : start + 3]) for r in some) for some in (on, off)]
        # Rare ones together, so that the distribution of the sum is what it is taken for.
        rare = {cell for cell in {*cells[0], *cells[1]} if cells[0][cell] + cells[1][cell] < 20}
        pairs = [(cells[0][cell], cells[1][cell]) for cell in {*cells[0], *cells[1]} - rare]
        if rare:
            pairs.append(tuple(sum(some[cell] for cell in rare) for some in cells))
        assert len(pairs) >= 8
        statistic = sum((a - b) ** 2 / (a + b) for a, b in pairs)
        assert statistic < _chi_square_bound(len(pairs) - 1)


def _chi_square_bound(degrees):
    """What a sum of squares stays under 999 times in 1,000 (Wilson and Hilferty, 1931)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_32_streams_at_once_draft_and_give_the_bits_of_32_alone(artifacts, precision):
    async with running_server(artifacts[precision], drafts=True) as running:
        requests = [
            (prompt, options | ({} if index % 4 else {"drafts": False}))
            for index, (prompt, options) in enumerate(work(3, 32))
        ]
        alone = [await generate(running, prompt, **options) for prompt, options in requests]

        async def leave(prompt):
            call = running.stub.Generate(generate_request(prompt, ignore_eos=True))
            await call.read()
            await call.read()
            call.cancel()

        crowd, *_ = await asyncio.gather(
            asyncio.gather(*(generate(running, p, **options) for p, options in requests)),
            *(leave([index + 1] * 40) for index in range(12)),
        )
    for single, together in zip(alone, crowd, strict=True):
        assert together.bits == single.bits
        assert together.finish.digest == single.finish.digest
        assert together.usage.drafted_tokens == single.usage.drafted_tokens
        assert together.usage.accepted_draft_tokens == single.usage.accepted_draft_tokens
    assert sum(reply.usage.accepted_draft_tokens for reply in alone) > 200
    assert all(reply.usage.drafted_tokens == 0 for reply in alone[::4])


async def test_threads_slots_and_slow_readers_do_not_change_bits(artifacts):
    bits, drafted = [], []
    for settings in ({}, {"threads": 1}, {"threads": 2}, {"stream_window": 1}, {"slots": 3}):
        async with running_server(artifacts["int8"], drafts=True, **settings) as running:
            requests = work(4, 10)
            replies = await asyncio.gather(*(generate(running, p, **o) for p, o in requests))
            bits.append([reply.bits for reply in replies])
            drafted.append([reply.usage.drafted_tokens for reply in replies])
    assert bits[1:] == bits[:1] * 4
    # Where there are fewer slots a draft is cheaper.
    assert drafted[1:4] == drafted[:1] * 3
    assert sum(drafted[4]) > sum(drafted[0])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
async def test_a_stream_resumed_anywhere_repeats_its_passes_to_the_bit(
    artifacts, precision, passes
):
    async with running_server(artifacts[precision], prefix_reuse=False) as running:
        for prompt, options in work(5, 8):
            options |= {"drafts": True, "max_tokens": 24}
            passes.clear()
            whole = await generate(running, prompt, **options)
            expected = passes.copy()
            for received in range(0, 24, 3):
                passes.clear()
                rest = await generate(
                    running, prompt, resume_token_ids=whole.ids[:received], **options
                )
                assert rest.bits == whole.bits[received:]
                assert rest.finish.digest == whole.finish.digest
                assert rest.usage == whole.usage
                assert passes == expected


ENDS = [
    {"max_tokens": 1},
    {"max_tokens": 2},
    {"max_tokens": 7},
    {"max_tokens": 40, "stop": ["?"]},
    {"max_tokens": 60, "stop_token_ids": [11]},
    {"max_tokens": 60, "min_tokens": 30, "stop_token_ids": [11]},
    {"max_tokens": 60, "min_tokens": 59, "logit_bias": {50256: 30.0}},
    {"max_tokens": 60, "frequency_penalty": 1.5},
    {"max_tokens": 60, "repetition_penalty": 1.3, "presence_penalty": 0.4},
    {},
]


@pytest.mark.parametrize("ends", ENDS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_it_ends_where_it_ends_without_drafts(few_slots, ends, temperature):
    """Among a few tokens that bias prefers, one of them "?", so that all of them come."""
    bias = dict.fromkeys(PERIOD, 100.0) | {30: 99.0} | ends.get("logit_bias", {})
    options = ends | {"temperature": temperature, "seed": 4, "logit_bias": bias}
    plain = await generate(few_slots, REPETITIVE, drafts=False, **options)
    drafted = await generate(few_slots, REPETITIVE, drafts=True, **options)
    assert drafted.ids == plain.ids
    assert drafted.text == plain.text
    ours, theirs = drafted.finish, plain.finish
    for field in ("finish_reason", "stop", "stop_token_id", "eos_token_id", "completion_tokens"):
        assert getattr(ours, field) == getattr(theirs, field)
    usage = drafted.usage
    assert usage.accepted_draft_tokens <= usage.drafted_tokens
    assert usage.accepted_draft_tokens <= max(0, usage.completion_tokens - 1)


async def test_a_text_that_repeats_itself_takes_few_passes(few_slots, passes):
    bias = {11: 100.0}
    options = {"max_tokens": 90, "logit_bias": bias, "temperature": 0.0}
    reply = await generate(few_slots, [40, 11, 11, 11], drafts=True, **options)
    assert reply.ids == [11] * 90
    # The prompt and then 3, 7 and 15 drafts at a time.
    assert len(passes) <= 9
    assert reply.usage.accepted_draft_tokens == reply.usage.drafted_tokens >= 80


async def test_a_text_that_does_not_repeat_itself_has_no_drafts(few_slots, passes):
    reply = await generate(
        few_slots, range(500, 520), max_tokens=60, seed=1, temperature=5.0, drafts=True
    )
    text = [*range(500, 520), *reply.ids]
    assert len(set(itertools.pairwise(text))) == len(text) - 1
    assert reply.usage.drafted_tokens == 0
    assert len(passes) == 60


async def test_drafts_are_the_servers_setting_where_a_request_does_not_say(artifacts):
    for setting in (False, True):
        async with running_server(artifacts["int8"], drafts=setting) as running:
            model = await running.stub.GetModel(pb.GetModelRequest())
            assert pb.CAPABILITY_DRAFTS in model.capabilities
            replies = [
                await generate(running, REPETITIVE, max_tokens=9, seed=1, **said)
                for said in ({}, {"drafts": False}, {"drafts": True})
            ]
        assert [reply.prompt.drafts for reply in replies] == [setting, False, True]
        assert len({reply.finish.digest for reply in replies}) == 2
        assert replies[0].finish.digest == replies[1 + setting].finish.digest


async def test_a_full_vocabulary_comes_with_every_drafted_token(few_slots):
    options = {"max_tokens": 20, "temperature": 0.0, "full_vocabulary": True}
    plain = await generate(few_slots, REPETITIVE, drafts=False, **options)
    drafted = await generate(few_slots, REPETITIVE, drafts=True, **options)
    assert drafted.usage.accepted_draft_tokens >= 8
    for one, other in zip(drafted.steps, plain.steps, strict=True):
        difference = np.array(one.full_logprobs) - np.array(other.full_logprobs)
        assert np.abs(difference).max() < 1e-4
