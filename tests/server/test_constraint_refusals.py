"""Constraints that are refused: what is said, and that nobody else is harmed."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.serving import generate, running_server, violation

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server import constraint_compiler

pytestmark = pytest.mark.asyncio(loop_scope="session")

EOS = 50256


async def refusal(running, constraint: types.Constraint, **options) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(running, "x", constraint=constraint, **options)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return violation(caught.value)


@pytest.mark.parametrize(
    ("constraint", "field", "said"),
    [
        ({}, "constraint", "has no kind: exactly one of json_schema, regex, grammar, choices"),
        ({"json_schema": ""}, "constraint.json_schema", "neither an object nor true or false"),
        ({"json_schema": "[1]"}, "constraint.json_schema", "neither an object nor true or false"),
        ({"json_schema": "false"}, "constraint.json_schema", "the schema is false"),
        ({"json_schema": '{"type": '}, "constraint.json_schema", "EOF while parsing"),
        ({"json_schema": '{"type": "text"}'}, "constraint.json_schema", "Invalid type: text"),
        ({"json_schema": '{"not": {}}'}, "constraint.json_schema", 'Unimplemented keys: ["not"]'),
        ({"json_schema": '{"enum": []}'}, "constraint.json_schema", "Unsatisfiable schema"),
        ({"json_schema": '{"$ref": "http://x/y"}'}, "constraint.json_schema", "http://x/y"),
        ({"regex": "("}, "constraint.regex", "unclosed group"),
        ({"regex": "(?=a)b"}, "constraint.regex", "look-around"),
        ({"regex": "[^\\s\\S]"}, "constraint.regex", "no text matches"),
        ({"grammar": ""}, "constraint.grammar", "Empty grammar"),
        ({"grammar": "start: item"}, "constraint.grammar", 'unknown name: "item"'),
        ({"grammar": 'start: start "a"'}, "constraint.grammar", "no text matches"),
        ({"grammar": "begin"}, "constraint.grammar", "Expected token ':'"),
        ({"grammar": 'start: <|endoftext|> "a"'}, "constraint.grammar", "no token of the vocabul"),
        ({"choices": {}}, "constraint.choices.texts", "has 0 entries, the least is 1"),
        ({"choices": {"texts": ["a", ""]}}, "constraint.choices.texts[1]", "has 0 bytes"),
    ],
)
async def test_what_is_no_form_is_refused_with_the_parsers_message(
    fp32_server, constraint, field, said
):
    found, description = await refusal(fp32_server, types.Constraint(**constraint))
    assert found == field
    assert said in description


async def test_the_size_of_a_constraint_is_bounded(artifacts):
    async with running_server(artifacts["int8"], max_constraint_bytes=10) as running:
        assert (await running.stub.GetModel(pb.GetModelRequest())).limits.max_constraint_bytes == 10
        assert (await generate(running, "x", constraint=types.Constraint(regex="a" * 10))).ids
        for constraint, size in (({"regex": "a" * 11}, 11), ({"choices": {"texts": "éé" * 3}}, 12)):
            found, said = await refusal(running, types.Constraint(**constraint))
            assert found == f"constraint.{next(iter(constraint))}"
            assert said == f"has {size} bytes, the limit is 10 (max_constraint_bytes)"


# Small texts that ask for minutes, for gigabytes, for more stack than there is.
GREEDY = {
    "time": types.Constraint(regex="(.*a)*" * 8000),
    "memory": types.Constraint(
        grammar="start: A\nA: " + " & ".join(f"~/(?s:.*){i}(?s:.*)/" for i in range(2500))
    ),
    "stack": types.Constraint(
        grammar="start: r0\n"
        + "".join(f'r{i}: r{i + 1} | "a" r{i + 1}\n' for i in range(2600))
        + 'r2600: "x"'
    ),
}


@pytest.mark.parametrize("kind", GREEDY)
async def test_a_constraint_that_takes_too_much_is_refused_and_others_go_on(artifacts, kind):
    async with running_server(artifacts["int8"], constraint_seconds=0.5) as running:
        (found, said), others = await asyncio.gather(
            refusal(running, GREEDY[kind]),
            asyncio.gather(*(generate(running, "x", seed=s, max_tokens=50) for s in range(4))),
        )
        assert found == f"constraint.{GREEDY[kind].WhichOneof('kind')}"
        assert "0.5 s" in said or "memory" in said or "nested too deeply" in said
        assert all(reply.ids for reply in others)
        # The next one finds another process to try it.
        assert (await generate(running, "x", constraint=types.Constraint(regex="ab"))).text == "ab"


async def test_a_form_that_cannot_be_followed_to_its_end_ends_its_own_stream_alone(
    fp32_server, monkeypatch
):
    constraint = types.Constraint(regex="[a-z ]{1,500}")
    neighbour = asyncio.create_task(generate(fp32_server, "y", max_tokens=100, ignore_eos=True))
    from nextok_server.constraints import TokenMatcher

    compute = TokenMatcher._compute

    def give_up(self):
        if self._taken == 7:
            self._refuse("lexer error: too many states")
        return compute(self)

    monkeypatch.setattr(TokenMatcher, "_compute", give_up)
    found, said = await refusal(fp32_server, constraint, seed=3)
    assert found == "constraint.regex"
    assert said == "after 7 tokens: lexer error: too many states"
    assert len((await neighbour).ids) == 100


@pytest.mark.parametrize(
    ("tokens", "index"),
    [([0], 0), ([64, 0], 1), ([64, 65, 65], 2), ([64, EOS], 1), ([64, 65, EOS, 64], 2)],
)
async def test_a_token_to_resume_with_that_does_not_fit_is_named(fp32_server, tokens, index):
    constraint = types.Constraint(regex="ab(cd)?")
    found, said = await refusal(fp32_server, constraint, resume_token_ids=tokens)
    assert found == f"resume_token_ids[{index}]"
    assert said == f"is {tokens[index]}, which constraint.regex does not allow there"


async def test_a_form_of_nothing_is_refused_where_no_end_can_be_chosen(fp32_server):
    empty = types.Constraint(regex="")
    reply = await generate(fp32_server, "x", constraint=empty)
    assert (reply.ids, reply.text) == ([EOS], "")
    assert (await refusal(fp32_server, empty, ignore_eos=True))[0] == "constraint.regex"
    found, said = await refusal(fp32_server, empty, min_tokens=1)
    assert found == "stop_conditions.min_tokens"
    assert said.startswith("is 1, the range is 0 to 0 where constraint.regex")


async def test_a_server_without_the_library_says_what_to_install(artifacts, monkeypatch):
    monkeypatch.setattr(constraint_compiler, "_LIBRARY", "nextok_has_no_such_library")
    async with running_server(artifacts["int8"]) as running:
        model = await running.stub.GetModel(pb.GetModelRequest())
        assert pb.CAPABILITY_CONSTRAINT not in model.capabilities
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generate(running, "x", constraint=types.Constraint(regex="a"))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "pip install 'nextok[grammar]'" in str(caught.value.details())


async def test_the_capability_is_told(fp32_server):
    model = await fp32_server.stub.GetModel(pb.GetModelRequest())
    assert pb.CAPABILITY_CONSTRAINT in model.capabilities
    assert model.limits.max_constraint_bytes == 65_536
