"""Bad input: the field, the value and the range are named, and nothing is computed."""

import math

import grpc
import pytest
from support.serving import generate, violation

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.model import Model

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAN, INF = math.nan, math.inf

BAD = [
    ({"temperature": -0.1}, "sampling.temperature", "is -0.1, the range is 0 to 100"),
    ({"temperature": 100.5}, "sampling.temperature", "is 100.5, the range is 0 to 100"),
    ({"temperature": NAN}, "sampling.temperature", "is nan, the range is 0 to 100"),
    ({"temperature": INF}, "sampling.temperature", "is inf, the range is 0 to 100"),
    ({"top_p": 0.0}, "sampling.top_p", "is 0, the range is over 0 to 1"),
    ({"top_p": 1.5}, "sampling.top_p", "is 1.5, the range is over 0 to 1"),
    ({"top_p": NAN}, "sampling.top_p", "is nan, the range is over 0 to 1"),
    ({"min_p": -1.0}, "sampling.min_p", "is -1, the range is 0 to 1"),
    ({"min_p": 2.0}, "sampling.min_p", "is 2, the range is 0 to 1"),
    (
        {"repetition_penalty": 0.0},
        "sampling.repetition_penalty",
        "is 0, the range is over 0 to 100",
    ),
    ({"presence_penalty": 101.0}, "sampling.presence_penalty", "is 101, the range is -100 to 100"),
    (
        {"frequency_penalty": -INF},
        "sampling.frequency_penalty",
        "is -inf, the range is -100 to 100",
    ),
    (
        {"logit_bias": {50257: 1.0}},
        "sampling.logit_bias[50257]",
        "is for id 50257, the range is 0 to 50256",
    ),
    ({"logit_bias": {7: NAN}}, "sampling.logit_bias[7]", "is nan, the range is -100 to 100"),
    ({"logit_bias": {7: -101.0}}, "sampling.logit_bias[7]", "is -101, the range is -100 to 100"),
    (
        {"logit_bias": dict.fromkeys(range(1025), 1.0)},
        "sampling.logit_bias",
        "has 1025 entries, the limit is 1024 (max_logit_bias)",
    ),
    ({"max_tokens": 0}, "stop_conditions.max_tokens", "is 0, the least is 1"),
    (
        {"max_tokens": 4, "min_tokens": 5},
        "stop_conditions.min_tokens",
        "is 5, the range is 0 to max_tokens, here 4",
    ),
    (
        {"stop": ["a", ""]},
        "stop_conditions.stop[1]",
        "has 0 bytes, the range is 1 to 256 (max_stop_bytes)",
    ),
    (
        {"stop": ["a" * 257]},
        "stop_conditions.stop[0]",
        "has 257 bytes, the range is 1 to 256 (max_stop_bytes)",
    ),
    ({"stop": ["a"] * 17}, "stop_conditions.stop", "has 17 entries, the limit is 16 (max_stop)"),
    (
        {"stop_token_ids": [1, 50257]},
        "stop_conditions.stop_token_ids[1]",
        "is 50257, the range is 0 to 50256",
    ),
    (
        {"stop_token_ids": range(65)},
        "stop_conditions.stop_token_ids",
        "has 65 entries, the limit is 64 (max_stop_token_ids)",
    ),
    (
        {"top_logprobs": 65},
        "logprobs.top_logprobs",
        "is 65, the range is 0 to 64 (max_top_logprobs)",
    ),
    ({"token_ids": [50257]}, "logprobs.token_ids[0]", "is 50257, the range is 0 to 50256"),
    (
        {"token_ids": range(129)},
        "logprobs.token_ids",
        "has 129 entries, the limit is 128 (max_logprob_token_ids)",
    ),
    (
        {"resume_token_ids": [4294967295]},
        "resume_token_ids[0]",
        "is 4294967295, the range is 0 to 50256",
    ),
    (
        {"resume_token_ids": [1, 2, 3], "max_tokens": 2},
        "resume_token_ids",
        "has 3 entries, the range is 0 to 2",
    ),
    ({"n": 0}, "n", "is 0, the range is 1 to 16 (max_choices)"),
]


@pytest.fixture
def computed(monkeypatch):
    """Counts what the model is asked to compute."""
    calls = []
    real = Model.forward

    def spy(self, *args, **kwargs):
        calls.append(1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", spy)
    return calls


@pytest.mark.parametrize(("fields", "field", "description"), BAD)
async def test_a_value_out_of_range_is_named_with_its_range(
    fp32_server, computed, fields, field, description
):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await generate(fp32_server, "hello", **fields)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violation(raised.value) == (field, description)
    assert raised.value.details() == f"{field}: {description}"
    assert computed == []


@pytest.mark.parametrize(
    ("prompt", "field", "description"),
    [
        ("", "prompt.text", "has 0 tokens, the range is 1 to 128"),
        ("word " * 130, "prompt.text", "has 131 tokens, the range is 1 to 128"),
        ("a" * 65537, "prompt.text", "has 65537 bytes, the limit is 65536 (max_prompt_bytes)"),
        ([], "prompt.token_ids", "has 0 tokens, the range is 1 to 128"),
        ([1, 50257], "prompt.token_ids.ids[1]", "is 50257, the range is 0 to 50256"),
        ([1] * 129, "prompt.token_ids", "has 129 tokens, the range is 1 to 128"),
    ],
)
async def test_a_prompt_out_of_range_is_named(fp32_server, computed, prompt, field, description):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await generate(fp32_server, prompt)
    assert violation(raised.value) == (field, description)
    assert computed == []


@pytest.mark.parametrize("request_", [pb.GenerateRequest(), pb.GenerateRequest(prompt={})])
async def test_a_prompt_without_a_source_is_named(fp32_server, request_):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await fp32_server.stub.Generate(request_).read()
    expected = ("prompt", "has no source: exactly one of text, token_ids is needed")
    assert violation(raised.value) == expected


async def _raw(running, method: str, data: bytes) -> grpc.aio.AioRpcError:
    """Sends bytes that no protobuf library would make."""
    call = running.channel.unary_stream(f"/nextok.v1.TextGenerationService/{method}")(data)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    return raised.value


@pytest.mark.parametrize(
    ("method", "message", "field"),
    [
        ("Generate", pb.GenerateRequest(), "prompt.text"),
        ("Tokenize", pb.TokenizeRequest(), "text"),
        ("Generate", pb.GenerateRequest(), "stop_conditions.stop"),
    ],
)
async def test_text_that_is_not_utf8_is_named_by_its_field(fp32_server, method, message, field):
    mark = "QQQQ"
    if field == "text":
        message.text = mark
    elif field == "prompt.text":
        message.prompt.text = mark
    else:
        message.stop_conditions.stop.append(mark)
    error = await _raw(
        fp32_server, method, message.SerializeToString().replace(b"QQQQ", b"a\xff\xfeb")
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violation(error) == (field, "is not valid UTF-8")


async def test_bytes_that_are_no_message_are_an_invalid_argument(fp32_server):
    error = await _raw(fp32_server, "Generate", b"\x0a\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "nextok.v1.GenerateRequest" in error.details()


async def test_detokenize_takes_no_more_ids_than_a_text_can_have(fp32_server):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await fp32_server.stub.Detokenize(pb.DetokenizeRequest(token_ids=[5] * 65537))
    expected = ("token_ids", "has 65537 entries, the limit is 65536 (max_prompt_bytes)")
    assert violation(raised.value) == expected


async def test_ids_at_the_edge_of_the_vocabulary_are_fine(fp32_server):
    reply = await generate(
        fp32_server, [0, 50256], max_tokens=1, token_ids=[0, 50256], logit_bias={50256: 1.0}
    )
    assert [candidate.id for candidate in reply.steps[0].token_logprobs] == [0, 50256]


@pytest.mark.parametrize("token_id", [50257, 2**32 - 1])
async def test_detokenize_names_the_id_outside_the_vocabulary(fp32_server, token_id):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await fp32_server.stub.Detokenize(pb.DetokenizeRequest(token_ids=[5, token_id]))
    assert violation(raised.value) == ("token_ids[1]", f"is {token_id}, the range is 0 to 50256")
