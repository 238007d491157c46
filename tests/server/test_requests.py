"""Limits that a model of usual size cannot reach."""

import pytest

from nextok.v1 import types_pb2 as types
from nextok_server.errors import InvalidRequest
from nextok_server.requests import Limits, read_stop_params

TINY = Limits(
    vocabulary_size=4,
    context_length=16,
    max_prompt_bytes=64,
    max_top_logprobs=4,
    max_logprob_token_ids=4,
    max_stop=4,
    max_stop_bytes=16,
    max_stop_token_ids=4,
    max_logit_bias=4,
    max_continuations=4,
    max_score_tokens=100,
    max_choices=4,
    max_branches=2,
    max_pending_actions=4,
    max_explore_nodes=100,
    max_explore_seconds=1.0,
    max_constraint_bytes=1000,
)


def test_min_tokens_is_refused_where_nothing_is_left_to_choose():
    message = types.StopConditions(stop_token_ids=[0, 1, 2], min_tokens=1)
    with pytest.raises(InvalidRequest, match=r"stop_conditions\.min_tokens: is 1"):
        read_stop_params(message, 1, [3], TINY)
    message.ignore_eos = True
    assert read_stop_params(message, 1, [3], TINY).min_tokens == 1


def test_max_tokens_past_the_context_is_cut_to_what_it_has_room_for():
    params = read_stop_params(types.StopConditions(max_tokens=99), 10, [3], TINY)
    assert (params.max_tokens, params.context_bound) == (7, True)
