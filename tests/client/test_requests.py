"""What a request can hold, and how it is refused what it cannot."""

import pytest

from nextok import requests
from nextok.v1 import types_pb2 as types


def test_a_prompt_is_text_or_ids():
    assert requests.prompt_message("a") == types.Prompt(text="a")
    ids = types.Prompt(token_ids=types.TokenIds(ids=[1, 2]))
    assert requests.prompt_message([1, 2]) == requests.prompt_message((1, 2)) == ids


def test_an_empty_prompt_is_sent_for_the_server_to_judge():
    assert requests.prompt_message("").WhichOneof("source") == "text"
    assert requests.prompt_message([]).WhichOneof("source") == "token_ids"


@pytest.mark.parametrize("prompt", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_bytes_are_not_mistaken_for_ids(prompt):
    with pytest.raises(TypeError, match="prompt: bytes"):
        requests.prompt_message(prompt)


@pytest.mark.parametrize("prompt", [7, None, [1.5], ["a"], [[1]]])
def test_a_prompt_of_another_type_is_a_type_error(prompt):
    with pytest.raises(TypeError, match=r"^prompt: "):
        requests.prompt_message(prompt)


@pytest.mark.parametrize("token_id", [-1, 2**32])
def test_an_id_that_is_no_uint32_is_refused_by_its_argument(token_id):
    with pytest.raises(ValueError, match=f"^prompt: .*{token_id}"):
        requests.prompt_message([token_id])
    with pytest.raises(ValueError, match=r"^stop_token_ids: "):
        requests.stop_conditions(stop_token_ids=[token_id])
    with pytest.raises(ValueError, match=r"^logprob_token_ids: "):
        requests.logprob_options(logprob_token_ids=[token_id])
    with pytest.raises(ValueError, match=r"^logit_bias: "):
        requests.sampling_params(logit_bias={token_id: 1.0})


@pytest.mark.parametrize(
    "arguments",
    [{"temperature": "hot"}, {"top_k": 1.5}, {"seed": "x"}, {"logit_bias": {1: "x"}}],
    ids=str,
)
def test_an_option_of_another_type_is_refused_by_its_name(arguments):
    (name,) = arguments
    with pytest.raises(TypeError, match=f"^{name}: "):
        requests.sampling_params(**arguments)


def test_a_seed_past_64_bits_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"^seed: "):
        requests.sampling_params(seed=2**64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"json_schema": '{"type": "null"}'}, {"json_schema": '{"type": "null"}'}),
        ({"json_schema": {"type": "null"}}, {"json_schema": '{"type": "null"}'}),
        ({"json_schema": True}, {"json_schema": "true"}),
        ({"regex": ""}, {"regex": ""}),
        ({"grammar": "start: x"}, {"grammar": "start: x"}),
        ({"choices": ["a", "b"]}, {"choices": {"texts": ["a", "b"]}}),
        ({"choices": []}, {"choices": {}}),
    ],
    ids=str,
)
def test_a_constraint_is_of_one_kind(arguments, message):
    assert requests.constraint(**arguments) == types.Constraint(**message)


def test_no_constraint_is_none_and_two_are_refused():
    assert requests.constraint() is None
    with pytest.raises(ValueError, match="regex, choices: only one of them can be given"):
        requests.constraint(regex="a", choices=["b"])


def test_a_constraint_that_no_message_can_hold_is_refused_by_its_name():
    with pytest.raises(TypeError, match="choices: a str is one text"):
        requests.constraint(choices="ab")
    with pytest.raises(ValueError, match="json_schema: "):
        requests.constraint(json_schema={"enum": [object()]})
    with pytest.raises(ValueError, match="regex: "):
        requests.constraint(regex="\ud800")


def test_one_stop_string_needs_no_list():
    assert requests.stop_conditions(stop="ab").stop == ["ab"]
    assert requests.stop_conditions(stop=["a", "b"]).stop == ["a", "b"]


def test_a_stop_string_that_utf8_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"^stop: "):
        requests.stop_conditions(stop=["\ud800"])
