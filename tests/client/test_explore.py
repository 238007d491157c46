"""What an exploration gives, through either client and on the command line, from a script."""

import asyncio
import gc
import json
import math

import grpc
import pytest
from support.fake_service import Hold, Refuse, exploration
from typer.testing import CliRunner

import nextok
from nextok import Client
from nextok.cli.app import app
from nextok.v1 import text_generation_pb2 as pb


@pytest.fixture(autouse=True)
def script(service):
    service.script = list(exploration())


async def test_an_exploration_is_its_nodes_with_a_summary(hands, target):
    async with hands.open(target) as client:
        running = client.explore("I love it")
        nodes = await hands.all(running)
    assert [(n.node_id, n.parent_id, n.depth, n.candidate.token) for n in nodes] == [
        (1, 0, 1, "a"),
        (2, 0, 1, "b"),
        (3, 1, 2, " c"),
        (4, 1, 2, "\N{REPLACEMENT CHARACTER}"),
    ]
    assert nodes[2].cumulative_logprob == math.log(0.125)
    assert running.nodes == tuple(nodes)
    assert running.summary.end is nextok.ExploreEnd.NODES
    assert (running.summary.computed_tokens, running.summary.leaf_mass) == (7, 0.4375)
    assert running.prompt.tokens.ids == (40, 1842, 2980, 876, 9552)
    assert repr(running).endswith("4 nodes, nodes>")


async def test_the_tree_can_be_walked(hands, target):
    async with hands.open(target) as client:
        running = client.explore("x")
        nodes = await hands.get(running.read_nodes())
    assert running.children() == nodes[:2]
    assert running.children(1) == nodes[2:]
    assert running.children(2) == ()
    assert running.path(3) == (nodes[0], nodes[2])
    assert [running.text(node) for node in range(5)] == ["", "a", "b", "a c", "a\ufffd"]
    with pytest.raises(KeyError):
        running.path(9)


async def test_every_option_reaches_the_server(hands, target, service):
    options = {
        "max_depth": 3,
        "max_width": 5,
        "min_probability": 0.25,
        "max_nodes": 99,
        "max_seconds": 1.5,
        "bypass_prefix_reuse": True,
        "priority": -2,
    }
    async with hands.open(target) as client:
        await hands.all(client.explore([1, 2], timeout=100, **options))
        await hands.all(client.explore("x"))
    expected = pb.ExploreRequest(**options)
    expected.prompt.token_ids.ids.extend([1, 2])
    plain = pb.ExploreRequest()
    plain.prompt.text = "x"
    assert service.requests == [expected, plain]
    assert 90 < service.time_left[0] < 102


async def test_leaving_early_gives_the_call_up(hands, target, service):
    service.script = [*exploration()[:2], Hold()]
    async with hands.open(target) as client, hands.inside(client.explore("x")) as running:
        async for _ in hands.each(running):
            break
    assert await asyncio.to_thread(service.given_up.wait, 10)


async def test_nobody_referring_to_it_gives_the_call_up(hands, target, service):
    service.script = [*exploration()[:2], Hold()]
    async with hands.open(target) as client:
        running = client.explore("x")
        await hands.next(running)
        del running
        gc.collect()
        assert await asyncio.to_thread(service.given_up.wait, 10)


async def test_what_came_before_an_error_is_kept(hands, target, service):
    service.script = [*exploration()[:2], Refuse(grpc.StatusCode.UNAVAILABLE, "gone")]
    async with hands.open(target) as client:
        running = client.explore("x")
        with pytest.raises(nextok.Unavailable, match="gone"):
            await hands.all(running)
    assert len(running.nodes) == 1
    assert running.summary is None


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"max_depth": -1}, "max_depth"), ({"max_nodes": 2**32}, "max_nodes")],
)
async def test_what_no_request_can_hold_is_named(hands, target, arguments, field):
    async with hands.open(target) as client:
        with pytest.raises(ValueError, match=field):
            client.explore("x", **arguments)


def test_a_notebook_shows_nested_tokens_and_escapes_them(target, service):
    service.script[1].nodes[0].candidate.token = "<script>"
    with Client(target) as client:
        running = client.explore("x")
        before = running._repr_html_()
        running.read_nodes()
    assert "not finished" in before
    shown = running._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<details") == shown.count("</details>") == 1
    assert shown.count("<div") == shown.count("</div>")
    assert "4 nodes, 3 expanded, leaves 43.75%, cut off there" in shown


@pytest.fixture
def run(target):
    def run(*arguments):
        env = {"NEXTOK_TARGET": target, "COLUMNS": "100"}
        return CliRunner().invoke(app, ["explore", *arguments], env=env)

    return run


def test_the_command_line_shows_a_tree(run, service):
    result = run("I love", "--depth", "2", "--width", "3", "--min-probability", "0.01")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "'I love'",
        "├──  50.00% █████      'a'",
        "│   ├──  25.00% ██▌        ' c'  12.50%",
        "│   └──  25.00% ██▌        '\ufffd'  6.25%",
        "└──  25.00% ██▌        'b'",
    ]
    assert result.stderr == (
        "4 nodes, 3 expanded, leaves 43.75%, cut off there, prompt 5 tokens (0 cached)\n"
    )
    (request,) = service.requests
    assert (request.max_depth, request.max_width, request.max_nodes) == (2, 3, 64)
    assert request.min_probability == 0.01


def test_json_is_a_node_a_line_with_the_wires_names_and_nothing_else(run):
    result = run("x", "--json")
    nodes = [json.loads(line) for line in result.stdout.splitlines()]
    names = [field.name for field in pb.ExploreNode.DESCRIPTOR.fields]
    assert all(list(node) == names for node in nodes)
    assert [node["candidate"]["token"] for node in nodes] == ["a", "b", " c", "\ufffd"]
    assert result.stderr == ""


def test_json_events_are_explore_responses(run):
    events = [json.loads(line) for line in run("x", "--json-events").stdout.splitlines()]
    assert [key for event in events for key in event] == ["prompt", *["nodes"] * 4, "summary"]
    assert events[-1]["summary"]["end"] == "nodes"
