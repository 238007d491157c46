"""The runs of a sweep, and what is refused before anything is sent."""

import dataclasses
import inspect

import pytest
from support import fake_service
from support.loads import settings

from nextok import model_replies
from nextok.bench.axes import CONTEXT, REQUEST_RATE, STREAMS, swept_over
from nextok.bench.lengths import Lengths
from nextok.bench.settings import BadSetting, check_against, check_prefix, sweep

MODEL = model_replies.model(fake_service.model())


def swept(**changes):
    none = {"streams": [], "request_rates": [], "contexts": [], "requests": None, "warmup": None}
    base = settings(streams=None, requests=0, warmup=0)
    return sweep(base, **(none | changes))


def test_a_closed_loop_has_four_requests_a_stream_and_at_least_20_after_one_each():
    found = [(s.streams, s.requests, s.warmup) for s in swept(streams=[1, 8, 32])]
    assert found == [(1, 20, 1), (8, 32, 8), (32, 128, 32)]


def test_an_open_loop_has_100_requests_after_10():
    found = [(s.request_rate, s.requests, s.warmup) for s in swept(request_rates=[0.5, 2.0])]
    assert found == [(0.5, 100, 10), (2.0, 100, 10)]


def test_numbers_that_are_given_are_taken():
    assert {(s.requests, s.warmup) for s in swept(streams=[1, 8], requests=3, warmup=0)} == {(3, 0)}


def test_every_load_runs_at_every_context():
    found = [
        (s.streams, s.context, s.prompt_tokens) for s in swept(streams=[1, 8], contexts=[4, 9])
    ]
    four, nine = Lengths(4, 4), Lengths(9, 9)
    assert found == [(1, 4, four), (1, 9, nine), (8, 4, four), (8, 9, nine)]


def test_an_axis_is_what_has_two_values():
    assert swept_over(swept(streams=[1])) == []
    assert swept_over(swept(streams=[1, 2])) == [STREAMS]
    assert swept_over(swept(request_rates=[1.0, 2.0])) == [REQUEST_RATE]
    assert swept_over(swept(streams=[1, 2], contexts=[3, 4])) == [STREAMS, CONTEXT]


@pytest.mark.parametrize(
    ("changes", "option", "complaint"),
    [
        ({"prefix_share": 0.5}, "--prefix-tokens", "needs both"),
        ({"prefix_tokens": 3}, "--prefix-share", "needs both"),
        ({"prefix_share": 1.0, "prefix_tokens": 8}, "--prefix-tokens", "8 is not from 0 to 7"),
    ],
)
def test_a_prefix_is_whole_and_shorter_than_every_prompt(changes, option, complaint):
    with pytest.raises(BadSetting, match=complaint) as refusal:
        check_prefix(settings(**changes))
    assert refusal.value.option == option
    check_prefix(settings(prefix_share=1.0, prefix_tokens=7))


@pytest.mark.parametrize(
    ("changes", "option", "complaint"),
    [
        ({"prompt_tokens": Lengths(1, 1021)}, "--prompt-tokens", "1021 tokens and 4 of .* 1020$"),
        ({"prompt_tokens": Lengths(1021, 1021), "context": 1021}, "--contexts", "at most 1020"),
        ({"output_tokens": Lengths(2000, 2000)}, "--prompt-tokens", "at most 0"),
        ({"top_logprobs": 65}, "--top", "65 is not from 0 to 64"),
        ({"drafts": True}, "--drafts", "does not draft"),
    ],
)
def test_what_the_server_cannot_do_is_refused_with_value_and_range(changes, option, complaint):
    with pytest.raises(BadSetting, match=complaint) as refusal:
        check_against(settings(**changes), MODEL)
    assert refusal.value.option == option


def test_what_just_fits_is_not():
    check_against(settings(prompt_tokens=Lengths(1, 1020), top_logprobs=64, drafts=False), MODEL)


def test_every_setting_is_described():
    # From Python 3.13 on, docstrings lose their indentation when they are compiled.
    described = inspect.getdoc(type(settings()))
    for field in dataclasses.fields(settings()):
        assert f"    {field.name}: " in described
