"""What an Explore stream lists, checked against brute force with torch."""

import asyncio
import math

import grpc
import numpy as np
import pytest
from support.checkpoints import need_torch
from support.exploring import best_first, brute_force, explore, explore_request, read_tree
from support.serving import generate, running_server, violation

from nextok.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHUNK = 16


def ids_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed + length).integers(0, 50257, length).tolist()


def torch_after(checkpoint, prompt, batch=256):
    """Torch's log probabilities of what follows the prompt and each of some paths.

    The prompt's keys and values are computed once, and repeated for every path.
    """
    need_torch()
    import torch
    from transformers import DynamicCache, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(checkpoint).double().eval()
    with torch.no_grad():
        first = model(torch.tensor([prompt]), use_cache=True)
    kept = [(layer.keys, layer.values) for layer in first.past_key_values.layers]

    def logprobs(paths):
        rows = []
        for start in range(0, len(paths), batch):
            part = paths[start : start + batch]
            if part == [()]:
                logits = first.logits[:, -1]
            else:
                past = DynamicCache()
                for layer, pair in enumerate(kept):
                    past.update(*(tensor.expand(len(part), -1, -1, -1) for tensor in pair), layer)
                with torch.no_grad():
                    logits = model(torch.tensor(part), past_key_values=past).logits[:, -1]
            rows.append(torch.log_softmax(logits, -1).numpy())
        return np.concatenate(rows)

    return logprobs


def assert_same_tree(reply, expected):
    assert set(reply.paths) == set(expected)
    for path, cumulative in reply.paths.items():
        assert cumulative == pytest.approx(expected[path], abs=1e-4), path


async def test_depth_4_and_width_8_lists_what_brute_force_gives(fp32_server, checkpoint):
    prompt = ids_of(9)
    reply = await explore(fp32_server, prompt, max_depth=4, max_width=8)
    assert len(reply.nodes) == 8 + 64 + 512 + 4096
    expected = brute_force(torch_after(checkpoint, prompt), 4, 8)
    assert_same_tree(reply, expected)
    assert [node.node_id for node in reply.nodes] == best_first(reply.nodes)
    summary = reply.summary
    assert (summary.nodes, summary.expanded) == (4680, 1 + 8 + 64 + 512)
    assert summary.end == pb.EXPLORE_END_COMPLETE
    leaves = [math.exp(value) for path, value in expected.items() if len(path) == 4]
    assert summary.leaf_mass == pytest.approx(math.fsum(leaves), rel=1e-4)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (9, 4680)


@pytest.mark.parametrize("least", [0.02, 0.002])
async def test_nodes_below_the_least_probability_are_left_out(fp32_server, checkpoint, least):
    prompt = ids_of(40)
    reply = await explore(fp32_server, prompt, max_depth=20, max_width=64, min_probability=least)
    assert_same_tree(reply, brute_force(torch_after(checkpoint, prompt), 20, 64, least))
    assert reply.summary.end == pb.EXPLORE_END_COMPLETE
    assert [node.node_id for node in reply.nodes] == best_first(reply.nodes)


async def test_each_node_says_where_it_stands(fp32_server):
    reply = await explore(fp32_server, "Once upon a", max_depth=3, max_width=3)
    assert [token.token for token in reply.prompt.tokens] == ["Once", " upon", " a"]
    assert [node.node_id for node in reply.nodes] == list(range(1, 40))
    by_id = {node.node_id: node for node in reply.nodes}
    for node, path in zip(reply.nodes, reply.ordered_paths, strict=True):
        parent = by_id.get(node.parent_id)
        assert node.parent_id < node.node_id
        assert node.depth == len(path) == (parent.depth if parent else 0) + 1
        before = parent.cumulative_logprob if parent else 0.0
        assert node.cumulative_logprob == before + node.candidate.logprob
        assert 1 <= node.candidate.rank <= 3
        assert node.candidate.kept
        assert node.candidate.prob == pytest.approx(math.exp(node.candidate.logprob), rel=1e-5)
        assert node.candidate.bytes.decode(errors="replace") == node.candidate.token


@pytest.mark.parametrize("most", [1, 7, 30, 38, 39, 40])
async def test_the_most_nodes_end_the_list_and_change_nothing_before(fp32_server, most):
    whole = await explore(fp32_server, [5, 6], max_depth=3, max_width=3)
    cut = await explore(fp32_server, [5, 6], max_depth=3, max_width=3, max_nodes=most)
    assert cut.nodes == whole.nodes[:most]
    complete = most >= 39
    assert cut.summary.end == (pb.EXPLORE_END_COMPLETE if complete else pb.EXPLORE_END_NODES)
    inner = sum(node.depth < 3 for node in cut.nodes)
    last_is_inner = not complete and cut.nodes[-1].depth < 3
    assert cut.summary.expanded == 1 + inner - last_is_inner
    parents = {node.parent_id for node in cut.nodes}
    leaves = [n.cumulative_logprob for n in cut.nodes if n.node_id not in parents]
    assert cut.summary.leaf_mass == pytest.approx(math.fsum(map(math.exp, leaves)))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_a_nodes_bits_are_those_of_a_generation(artifacts, precision):
    prompt = ids_of(33)
    async with running_server(artifacts[precision], prefill_chunk=CHUNK) as server:
        tree = await explore(server, prompt, max_depth=4, max_width=2)
        greedy = await generate(server, prompt, temperature=0, max_tokens=4, ignore_eos=True)
    logprobs = {
        path: node.candidate.logprob
        for path, node in zip(tree.ordered_paths, tree.nodes, strict=True)
    }
    for count, step in enumerate(greedy.steps, 1):
        assert logprobs[tuple(greedy.ids[:count])] == step.logprob


SETTINGS = [
    {"slots": 1},
    {"slots": 3},
    {"shelf_mb": 0},
    {"prefix_reuse": False},
    {"retained_mb": 0, "slots": 64},
]


@pytest.mark.parametrize("settings", SETTINGS)
async def test_the_tree_does_not_depend_on_slots_shelf_and_reuse(artifacts, settings):
    work = {"max_depth": 5, "max_width": 3, "max_nodes": 200}
    prompt = ids_of(37)
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as server:
        expected = await explore(server, prompt, **work)
    # One slot on a busy machine may take longer than is allowed by default.
    settings = {"prefill_chunk": CHUNK, "max_explore_seconds": 600, **settings}
    async with running_server(artifacts["int8"], **settings) as server:
        for bypass in (False, True):
            reply = await explore(server, prompt, bypass_prefix_reuse=bypass, **work)
            assert reply.nodes == expected.nodes
            assert reply.summary.leaf_mass == expected.summary.leaf_mass


async def test_trees_in_a_crowd_are_those_of_each_alone(artifacts):
    work = {"max_depth": 4, "max_width": 3}
    prompts = [ids_of(length) for length in (1, 16, 33)]
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK, slots=8) as server:
        alone = [await explore(server, prompt, **work) for prompt in prompts]
        crowd = await asyncio.gather(
            *(explore(server, prompt, **work) for prompt in prompts),
            *(generate(server, prompt, n=2, max_tokens=30) for prompt in prompts),
        )
    for one, other in zip(alone, crowd, strict=False):
        assert other.nodes == one.nodes


@pytest.mark.parametrize("settings", [{}, {"prefix_reuse": False}])
async def test_the_prompt_is_computed_once_and_each_node_takes_one_token(artifacts, settings):
    prompt = ids_of(100)
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK, **settings) as server:
        first = await explore(server, prompt, max_depth=4, max_width=4)
        again = await explore(server, prompt, max_depth=4, max_width=4)
    inner = 4 + 16 + 64
    assert first.summary.computed_tokens == 100 + inner
    assert (first.summary.expanded, first.usage.cached_tokens) == (1 + inner, 0)
    cached = 0 if settings else 96
    assert again.usage.cached_tokens == cached
    assert again.summary.computed_tokens == 100 - cached + inner


async def test_without_a_shelf_paths_are_computed_again(artifacts):
    async with running_server(artifacts["int8"], shelf_mb=0) as server:
        reply = await explore(server, [5], max_depth=5, max_width=3)
    inner = 3 + 9 + 27 + 81
    assert reply.summary.computed_tokens > 1 + inner


async def test_defaults_are_depth_4_width_8_and_what_fits(fp32_server):
    reply = await explore(fp32_server, ids_of(126), max_nodes=60)
    assert {node.candidate.rank for node in reply.nodes if node.parent_id == 0} <= set(range(1, 9))
    whole = await explore(fp32_server, ids_of(127))
    assert len(whole.nodes) == 8 + 64
    assert len((await explore(fp32_server, ids_of(128))).nodes) == 8


async def test_time_that_passes_is_told_and_what_is_known_is_kept(artifacts, prefills):
    async with running_server(artifacts["fp32"]) as server:
        prefills.allow(0)
        reply = await explore(server, ids_of(30), max_seconds=0.05)
        prefills.release()
        assert not reply.nodes
        assert reply.summary.end == pb.EXPLORE_END_SECONDS
        assert (reply.summary.expanded, reply.summary.leaf_mass) == (0, 0)
        whole = await explore(server, ids_of(30), max_depth=2, max_width=2)
        assert whole.summary.end == pb.EXPLORE_END_COMPLETE


async def test_a_cancelled_or_late_tree_leaves_every_slot_to_others(artifacts):
    async with running_server(artifacts["fp32"], slots=4, max_queue=0) as server:
        for timeout in (None, 0.3):
            request = explore_request("hello there", max_depth=60, max_width=8)
            call = server.stub.Explore(request, timeout=timeout)
            while not (await call.read()).nodes:
                pass
            if timeout is None:
                call.cancel()
            with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
                await read_tree(call)
            work = [generate(server, "you", max_tokens=3, ignore_eos=True) for _ in range(4)]
            assert [len(reply.steps) for reply in await asyncio.gather(*work)] == [3] * 4


async def test_what_was_computed_is_counted_for_the_caller(artifacts):
    async with running_server(artifacts["fp32"], max_tokens_per_minute=200) as server:
        await explore(server, ids_of(60), max_depth=3, max_width=11)
        # 60 and 132 were computed; with what is left one more may begin, which takes it.
        await generate(server, ids_of(60), max_tokens=1)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await explore(server, "you", max_nodes=1)
    assert "200 tokens a minute" in raised.value.details()


BAD = [
    ({"prompt": []}, "prompt.token_ids", "has 0 tokens, the range is 1 to 128"),
    ({"prompt": [5] * 129}, "prompt.token_ids", "has 129 tokens, the range is 1 to 128"),
    ({"prompt": [50257]}, "prompt.token_ids.ids[0]", "is 50257, the range is 0 to 50256"),
    (
        {"max_depth": 0},
        "max_depth",
        "is 0, the range is 1 to 127 (what the context has room for behind 2 tokens)",
    ),
    (
        {"max_depth": 128},
        "max_depth",
        "is 128, the range is 1 to 127 (what the context has room for behind 2 tokens)",
    ),
    ({"max_width": 0}, "max_width", "is 0, the range is 1 to 64 (max_top_logprobs)"),
    ({"max_width": 65}, "max_width", "is 65, the range is 1 to 64 (max_top_logprobs)"),
    ({"min_probability": -0.1}, "min_probability", "is -0.1, the range is 0 to 1"),
    ({"min_probability": 1.5}, "min_probability", "is 1.5, the range is 0 to 1"),
    ({"min_probability": math.nan}, "min_probability", "is nan, the range is 0 to 1"),
    ({"max_nodes": 0}, "max_nodes", "is 0, the range is 1 to 10000 (max_explore_nodes)"),
    ({"max_nodes": 10001}, "max_nodes", "is 10001, the range is 1 to 10000 (max_explore_nodes)"),
    ({"max_seconds": 0}, "max_seconds", "is 0, the range is over 0 to 60 (max_explore_seconds)"),
    ({"max_seconds": 61}, "max_seconds", "is 61, the range is over 0 to 60 (max_explore_seconds)"),
]


@pytest.mark.parametrize(("fields", "field", "description"), BAD)
async def test_what_is_out_of_range_is_named(fp32_server, fields, field, description):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await explore(fp32_server, **{"prompt": [1, 2], **fields})
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violation(raised.value) == (field, description)


async def test_get_model_tells_the_limits(fp32_server):
    model = await fp32_server.stub.GetModel(pb.GetModelRequest())
    assert pb.CAPABILITY_EXPLORE in model.capabilities
    assert (model.limits.max_explore_nodes, model.limits.max_explore_seconds) == (10_000, 60)
