"""What a scoring gives, through either client, from a scripted server."""

import asyncio
import gc

import grpc
import pytest
from support.fake_service import Hold, Refuse, scoring

import nextok
from nextok.v1 import text_generation_pb2 as pb


@pytest.fixture(autouse=True)
def script(service):
    service.script = list(scoring(["I", " love", " it"]))


async def test_a_scoring_is_its_tokens_with_totals_and_summary(hands, target):
    async with hands.open(target) as client:
        running = client.score("I love it")
        tokens = await hands.all(running)
        assert [token.token for token in tokens] == ["I", " love", " it"]
        assert tokens[0].logprob is None
        assert tokens[1].surprisal == -tokens[1].logprob
        assert [c.rank for c in tokens[1].top_logprobs] == [1, 2]
        assert running.tokens == tuple(tokens)
        (total,) = running.totals
        assert (total.continuation, total.scored_tokens, total.perplexity) == (None, 2, 2.0)
        assert running.summary.computed_tokens == 4
        assert running.prompt.tokens.ids == (40, 1842, 2980, 876, 9552)


async def test_every_option_reaches_the_server(hands, target, service):
    async with hands.open(target) as client:
        running = client.score(
            [1, 2],
            continuations=[" a", [3, 4]],
            top_logprobs=5,
            logprob_token_ids=[6, 7],
            full_vocabulary=True,
            stride=8,
            bypass_prefix_reuse=True,
            priority=-9,
            timeout=100,
        )
        await hands.get(running.read_totals())
    expected = pb.ScoreRequest(stride=8, bypass_prefix_reuse=True, priority=-9)
    expected.prompt.token_ids.ids.extend([1, 2])
    expected.continuations.add().text = " a"
    expected.continuations.add().token_ids.ids.extend([3, 4])
    expected.logprobs.top_logprobs = 5
    expected.logprobs.token_ids.extend([6, 7])
    expected.logprobs.full_vocabulary = True
    assert service.requests == [expected]
    # gRPC rounds deadlines up.
    assert 90 < service.time_left[0] < 102


async def test_what_is_not_asked_for_is_absent(hands, target, service):
    async with hands.open(target) as client:
        await hands.get(client.score("x").read_totals())
    (request,) = service.requests
    assert {field.name for field, _ in request.ListFields()} == {"prompt", "logprobs"}
    assert not request.logprobs.ListFields()


async def test_read_totals_reads_to_the_end(hands, target, service):
    service.script = list(scoring([" a", " b"], [" c"], continuations=True))
    async with hands.open(target) as client:
        running = client.score("x", continuations=[" a b", " c"])
        totals = await hands.get(running.read_totals())
    assert [(t.continuation, t.scored_tokens) for t in totals] == [(0, 2), (1, 1)]
    assert [token.continuation for token in running.tokens] == [0, 0, 1]


async def test_a_refusal_is_raised_while_reading_and_what_came_is_kept(hands, target, service):
    service.script = [*scoring(["I", " love"])[:2], Refuse(grpc.StatusCode.INTERNAL, "fault")]
    async with hands.open(target) as client:
        running = client.score("x")
        with pytest.raises(nextok.Internal, match="fault"):
            await hands.all(running)
        assert len(running.tokens) == 2
        assert running.summary is None


async def test_a_status_that_is_lost_after_the_end_is_not_missed(hands, target, service):
    service.script.append(Refuse(grpc.StatusCode.UNAVAILABLE, "connection lost"))
    async with hands.open(target) as client:
        assert len(await hands.all(client.score("x"))) == 3


async def test_a_stream_that_breaks_is_an_error(hands, target, service):
    service.script = [scoring(["I"])[0], Refuse(grpc.StatusCode.UNAVAILABLE, "connection lost")]
    async with hands.open(target) as client:
        with pytest.raises(nextok.Unavailable):
            await hands.all(client.score("x"))


@pytest.mark.parametrize("way", ["with", "cancel", "forget", "close"])
async def test_a_scoring_that_is_given_up_is_cancelled(hands, target, service, way):
    service.script = [*scoring(["I", " love"])[:2], Hold()]
    async with hands.open(target) as client:
        running = client.score("x")
        if way == "with":
            async with hands.inside(running):
                await hands.next(running)
        else:
            await hands.next(running)
        if way == "cancel":
            running.cancel()
            await hands.next(running)
            with pytest.raises(nextok.Cancelled):
                await hands.next(running)
        if way == "forget":
            del running
            gc.collect()
        if way != "close":
            assert await asyncio.to_thread(service.given_up.wait, 10)
    assert await asyncio.to_thread(service.given_up.wait, 10)


def test_a_bare_text_is_no_list_of_continuations():
    with nextok.Client("localhost:1") as client, pytest.raises(TypeError, match="continuations"):
        client.score("x", continuations=" a")


async def test_a_notebook_shades_the_tokens_and_tells_the_total(hands, target, service):
    service.script = list(scoring([" <b>"], [" c"], continuations=True))
    async with hands.open(target) as client:
        running = client.score("x", continuations=[" <b>", " c"])
        await hands.get(running.read_totals())
    html = running._repr_html_()
    assert "<b>" not in html
    assert html.count("rgba(255,110,0,") == 2
    assert html.count("1 token, -0.69 nats, perplexity 2.00, greedy") == 2
    assert "2 tokens scored, 2 totals" in repr(running)
