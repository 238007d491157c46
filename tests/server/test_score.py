"""What a Score stream says, checked against torch in float64."""

import math

import numpy as np
import pytest
from support.checkpoints import export_artifact, make_checkpoint, need_torch
from support.scoring import score
from support.serving import generate, running_server

from nextok.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONTEXT = 128
LONG_CONTEXT = 1024
STRIDE = 512


def ids_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed + length).integers(0, 50257, length).tolist()


def close(scored, expected) -> None:
    assert scored.logprob == pytest.approx(expected[scored.id], abs=1e-4)
    assert scored.surprisal == -scored.logprob
    assert scored.entropy == pytest.approx(-(np.exp(expected) * expected).sum(), abs=1e-4)


@pytest.fixture(scope="module")
def long_checkpoint(tmp_path_factory):
    """With GPT-2's own context, and small, for torch goes over it many times."""
    return make_checkpoint(tmp_path_factory.mktemp("long"), vocabulary=3000, context=LONG_CONTEXT)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128])
async def test_every_token_of_a_text_equals_torch(fp32_server, torch_logprobs, length):
    ids = ids_of(length)
    reply = await score(fp32_server, ids, top_logprobs=3, token_ids=[7, 0])
    expected = torch_logprobs(ids)
    assert [token.position for token in reply.tokens] == list(range(length))
    assert [token.id for token in reply.tokens] == ids
    first, *others = reply.tokens
    for name in ("logprob", "rank", "entropy", "surprisal", "continuation"):
        assert not first.HasField(name)
    for token in others:
        row = expected[token.position - 1]
        close(token, row)
        order = np.argsort(-row, kind="stable")
        assert token.rank == pytest.approx(1 + int((row > row[token.id]).sum()), abs=3)
        assert [c.id for c in token.top_logprobs] == order[:3].tolist()
        assert [c.id for c in token.token_logprobs] == [7, 0]
        assert token.token_logprobs[0].logprob == pytest.approx(row[7], abs=1e-4)
        assert token.context_tokens == token.position
    given = [expected[i - 1][ids[i]] for i in range(1, length)]
    (total,) = reply.totals
    assert total.logprob == pytest.approx(math.fsum(given), abs=1e-4 * length)
    assert total.scored_tokens == length - 1
    assert total.HasField("perplexity") == (length > 1)
    if length > 1:
        assert total.perplexity == pytest.approx(math.exp(-np.mean(given)), rel=1e-3)
    assert reply.summary.usage.prompt_tokens == length
    assert reply.summary.computed_tokens == length - 1
    timings = reply.summary.timings
    assert min(timings.queue_seconds, timings.prefill_seconds, timings.decode_seconds) >= 0


@pytest.mark.parametrize("length", [1024, 1025, 1026, 5000])
@pytest.mark.parametrize("stride", [None, 300, LONG_CONTEXT])
async def test_a_text_longer_than_the_context_equals_torch_over_the_windows_that_it_tells(
    long_checkpoint, long_artifact, length, stride
):
    need_torch()
    import torch
    from transformers import GPT2LMHeadModel

    ids = np.random.default_rng(length).integers(0, 3000, length).tolist()
    options = {} if stride is None else {"stride": stride}
    async with running_server(long_artifact) as running:
        reply = await score(running, ids, **options)
    tokens = reply.tokens[1:]
    assert [token.position for token in reply.tokens] == list(range(length))
    least = LONG_CONTEXT + 1 - (stride or STRIDE)
    for token in tokens:
        assert min(token.position, least) <= token.context_tokens <= LONG_CONTEXT
        assert token.context_tokens == token.position or token.position > LONG_CONTEXT
    model = GPT2LMHeadModel.from_pretrained(long_checkpoint).double().eval()
    seen = {}
    for token in tokens:
        seen.setdefault(token.position - token.context_tokens, []).append(token)
    for start, scored in seen.items():
        with torch.no_grad():
            window = torch.tensor([ids[start : scored[-1].position]])
            expected = torch.log_softmax(model(window).logits[0], -1).numpy()
        for token in scored:
            close(token, expected[token.context_tokens - 1])
    assert reply.summary.computed_tokens == sum(s[-1].context_tokens for s in seen.values())


@pytest.fixture(scope="module")
def long_artifact(long_checkpoint, tmp_path_factory):
    return export_artifact(long_checkpoint, tmp_path_factory.mktemp("artifact") / "fp32")


@pytest.mark.parametrize("prompt_length", [1, 2, 63, 64, 65, 66, 100])
async def test_every_token_of_every_continuation_equals_torch(
    fp32_server, torch_logprobs, prompt_length
):
    prompt = ids_of(prompt_length)
    continuations = [
        ids_of(n, seed=n) for n in (3, 1, 2, 20, 1, 28, 70, 64) if n < 129 - prompt_length
    ]
    reply = await score(fp32_server, prompt, continuations, top_logprobs=2)
    for index, ids in enumerate(continuations):
        expected = torch_logprobs(prompt + ids)
        tokens = [token for token in reply.tokens if token.continuation == index]
        assert all(token.HasField("continuation") for token in tokens)
        assert [token.id for token in tokens] == ids
        for offset, token in enumerate(tokens):
            assert token.position == token.context_tokens == prompt_length + offset
            close(token, expected[token.position - 1])
            assert token.top_logprobs[0].id == expected[token.position - 1].argmax()
        total = reply.totals[index]
        assert total.continuation == index
        assert total.scored_tokens == len(ids)
        assert total.logprob == pytest.approx(math.fsum(t.logprob for t in tokens), abs=1e-9)
        assert total.is_greedy == all(token.rank == 1 for token in tokens)
    order = [token.continuation for token in reply.tokens]
    assert order == sorted(order)
    assert reply.summary.usage.completion_tokens == sum(map(len, continuations))


async def test_what_the_model_would_say_itself_is_greedy(fp32_server, torch_logprobs):
    prompt = ids_of(30)
    likely = []
    for _ in range(4):
        likely.append(int(torch_logprobs(prompt + likely)[-1].argmax()))
    other = [*likely[:2], (likely[2] + 1) % 50257, likely[3]]
    reply = await score(fp32_server, prompt, [likely, other, likely[:1]])
    assert [total.is_greedy for total in reply.totals] == [True, False, True]


async def test_a_continuation_that_does_not_fit_loses_the_prompts_beginning(
    fp32_server, torch_logprobs
):
    prompt = ids_of(120)
    work = [ids_of(n, seed=n) for n in (9, 10, 30, 1, 5, 200)]
    reply = await score(fp32_server, prompt, work, stride=CONTEXT)
    for index, ids in enumerate(work[:5]):
        text = prompt + ids
        start = max(0, len(text) - 1 - CONTEXT)
        expected = torch_logprobs(text[start:-1])
        tokens = [token for token in reply.tokens if token.continuation == index]
        assert [token.id for token in tokens] == ids
        for token in tokens:
            assert token.context_tokens == token.position - start
            close(token, expected[token.context_tokens - 1])
    longest = [token for token in reply.tokens if token.continuation == 5]
    assert [token.id for token in longest] == work[5]
    assert [total.scored_tokens for total in reply.totals] == [9, 10, 30, 1, 5, 200]


async def test_a_prompt_longer_than_the_context_can_be_continued(fp32_server, torch_logprobs):
    prompt = ids_of(300)
    work = [[5], [6, 7], ids_of(40)]
    reply = await score(fp32_server, prompt, work)
    for index, ids in enumerate(work):
        text = prompt + ids
        tokens = [token for token in reply.tokens if token.continuation == index]
        assert [token.position for token in tokens] == list(range(300, 300 + len(ids)))
        expected = torch_logprobs(text[-1 - CONTEXT : -1])
        for token in tokens:
            close(token, expected[token.context_tokens - 1])
        assert tokens[-1].context_tokens == CONTEXT


async def test_text_and_ids_are_scored_alike(fp32_server):
    text, more = "I love Generative AI", " a lot"
    info = await fp32_server.stub.Tokenize(pb.TokenizeRequest(text=more))
    given = await score(fp32_server, text, [more, [token.id for token in info.tokens]])
    one, other = ([t for t in given.tokens if t.continuation == i] for i in (0, 1))
    assert [t.logprob for t in one] == [t.logprob for t in other]
    assert b"".join(token.bytes for token in one).decode() == more
    assert [token.id for token in given.prompt.tokens] == [40, 1842, 2980, 876, 9552]
    assert len(given.prompt.artifact_sha256) == 64


async def test_whole_vocabularies_come_in_messages_of_bounded_size(fp32_server, torch_logprobs):
    ids = ids_of(150)
    reply = await score(fp32_server, ids, full_vocabulary=True)
    assert [token.position for token in reply.tokens] == list(range(150))
    expected = torch_logprobs(ids[:CONTEXT])
    for token in reply.tokens[1 : CONTEXT + 1]:
        assert np.abs(np.array(token.full_logprobs) - expected[token.position - 1]).max() < 1e-4
    assert max(message.ByteSize() for message in reply.messages) < 4 << 20
    branches = await score(fp32_server, ids[:20], [ids[20:30], ids[30:50]], full_vocabulary=True)
    assert all(len(token.full_logprobs) == 50257 for token in branches.tokens)


async def test_scores_equal_generates_prompt_logprobs_to_the_bit(int8_server):
    ids = ids_of(100)
    generated = await generate(int8_server, ids, max_tokens=1, prompt_logprobs=True)
    scored = await score(int8_server, ids)
    assert scored.logprobs == [t.logprob for t in generated.prompt_logprobs[1:]]


async def test_get_model_offers_score_with_its_limits(fp32_server):
    model = await fp32_server.stub.GetModel(pb.GetModelRequest())
    assert pb.CAPABILITY_SCORE in model.capabilities
    assert (model.limits.max_continuations, model.limits.max_score_tokens) == (128, 1_000_000)
    full = await score(fp32_server, [1], [[2]] * 128)
    assert len(full.totals) == 128
