"""What is refused at the door, with OpenAI's errors; and what happens when a client leaves."""

import asyncio
import threading

import grpc
import openai
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from support.fake_service import Hold, Refuse, first, generation
from support.serving import generate

from nextok.errors import STATUS_ERRORS
from nextok.v1 import text_generation_pb2 as pb
from nextok.web.refusals import refusal_of

BAD_VALUES = [
    ({"temperature": 101}, "temperature", "temperature is 101, the range is 0 to 100"),
    ({"temperature": "hot"}, "temperature", "temperature is a string, expected a number"),
    ({"top_p": 0}, "top_p", "top_p is 0, the range is over 0 to 1"),
    ({"max_tokens": -1}, "max_tokens", "max_tokens is -1, the range is 0 to 4294967295"),
    ({"max_tokens": 0}, "max_tokens", "the least is 1"),
    ({"max_tokens": 1.5}, "max_tokens", "expected a whole number"),
    ({"n": 0}, "n", "n is 0, the range is 1 to 128"),
    ({"n": 129}, "n", "n is 129, the range is 1 to 128"),
    ({"n": 100, "prompt": ["a", "b"]}, "prompt", "the limit is 128 completions"),
    ({"logprobs": 1000}, "logprobs", "logprobs is 1000, the range is 0 to "),
    ({"logprobs": True}, "logprobs", "logprobs is true or false, expected a whole number"),
    ({"best_of": 3}, "best_of", "best_of is 3, only n (1) is possible"),
    ({"suffix": "end"}, "suffix", "GPT-2 continues a text, it does not fill one in"),
    ({"prompt": ""}, "prompt", "prompt has 0 tokens"),
    ({"prompt": []}, "prompt", "prompt has 0 tokens"),
    ({"prompt": [50257]}, "prompt", "is 50257, the range is 0 to 50256"),
    ({"prompt": [1, "a"]}, "prompt[1]", "prompt[1] is a string, expected a whole number"),
    ({"prompt": {}}, "prompt", "prompt is an object, expected a list of token ids"),
    ({"stop": ""}, "stop", "stop has 0 bytes"),
    ({"stop": [1]}, "stop[0]", "stop[0] is 1, expected a string"),
    ({"seed": 2**64}, "seed", "the range is -2**63 to 2**64 - 1"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "has the key 'x', expected a token id"),
    ({"logit_bias": {"50257": 1}}, "logit_bias", "the range is 0 to 50256"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
    ({"messages": []}, "messages", "messages is not a field of this request"),
    ({"echo": 1}, "echo", "echo is 1, expected true or false"),
    ({"model": ""}, "model", "model is missing"),
]


async def test_bad_values_are_refused_by_name_with_their_range(client, model):
    for fields, param, message in BAD_VALUES:
        for stream in (False, True):
            body = {"model": model, "prompt": "x", "stream": stream, **fields}
            if stream and "stream_options" in fields:
                continue
            with pytest.raises(openai.BadRequestError) as caught:
                await client.post("/completions", body=body, cast_to=object)
            assert message in caught.value.body["message"], fields
            assert caught.value.param == param, fields
            assert caught.value.type == "invalid_request_error"


async def test_what_is_no_json_object_is_refused(client):
    for body in (b"", b"[", b"[]", b"null", b'{"model": NaN}', b"[" * 100_000):
        with pytest.raises(openai.BadRequestError, match="the body is"):
            await client.post("/completions", content=body, cast_to=object)


async def test_another_models_name_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.completions.create(model="gpt-4", prompt="x")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


async def test_a_chat_is_refused_with_the_reason(client, model):
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.NotFoundError, match="not trained to take part in a chat"):
        await client.chat.completions.create(model=model, messages=messages)
    with pytest.raises(openai.NotFoundError, match="has no embeddings"):
        await client.embeddings.create(model=model, input="Hello")


def _retry_in(milliseconds):
    status = status_pb2.Status(code=8)
    delay = Duration(nanos=milliseconds * 1_000_000)
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return (("grpc-status-details-bin", status.SerializeToString()),)


async def test_a_full_server_is_a_429_that_says_when_to_come_back(fake_client, service):
    service.script = [Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", _retry_in(250))]
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError, match="queue full") as caught:
            await fake_client.completions.create(model="demo", prompt="x", stream=stream)
        headers = caught.value.response.headers
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "250")


async def test_openais_client_tries_a_full_server_again_by_itself(fake_client, service):
    service.scripts = [[Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", _retry_in(1))]]
    retrying = fake_client.with_options(max_retries=1)
    found = await retrying.completions.create(model="demo", prompt="x")
    assert found.choices[0].text == " and it."


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNIMPLEMENTED, 501),
        (grpc.StatusCode.UNAUTHENTICATED, 502),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
async def test_the_servers_own_failures_keep_their_kind(fake_client, service, status, expected):
    service.script = [Refuse(status, "it is so")]
    with pytest.raises(openai.InternalServerError, match="it is so") as caught:
        await fake_client.completions.create(model="demo", prompt="x")
    assert caught.value.status_code == expected


def test_every_error_of_the_client_has_a_status_here():
    for code, kind in STATUS_ERRORS.items():
        assert 400 <= refusal_of(kind(code, "x")).status < 600


async def test_what_fails_in_the_middle_of_a_stream_is_told_in_it(fake_client, service):
    service.script = [*generation(" a", " b")[:2], Refuse(grpc.StatusCode.INTERNAL, "broken")]
    stream = await fake_client.completions.create(model="demo", prompt="x", stream=True)
    assert (await anext(stream)).choices[0].text == " a"
    with pytest.raises(openai.APIError, match="broken"):
        await anext(stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_leaves_ends_its_generation(fake_client, service, stream):
    arrived = threading.Event()

    class Telling(list):
        def __iter__(self):
            arrived.set()
            return super().__iter__()

    service.script = Telling([*generation(" a")[:2], Hold()])
    asking = asyncio.create_task(
        fake_client.completions.create(model="demo", prompt="x", stream=stream)
    )
    await asyncio.to_thread(arrived.wait, 10)
    if stream:
        answer = await asking
        await anext(answer)
        await answer.close()
    else:
        asking.cancel()
    assert await asyncio.to_thread(service.given_up.wait, 10)


async def test_a_stream_that_is_left_frees_its_slot(server, client, model):
    long = {"model": model, "prompt": "x", "max_tokens": 120, "stream": True}
    long["extra_body"] = {"ignore_eos": True}
    for _ in range(12):  # three times as many as there are slots
        stream = await client.completions.create(**long)
        await anext(stream)
        await stream.close()
    reply = await asyncio.wait_for(generate(server, "x", max_tokens=2), 20)
    assert len(reply.steps) == 2


async def test_an_unreachable_server_is_a_503(fake_client, service):
    service.refusal = Refuse(grpc.StatusCode.UNAVAILABLE, "stopping")
    with pytest.raises(openai.InternalServerError) as caught:
        await fake_client.completions.create(model="demo", prompt="x")
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) >= 1


async def test_first_and_last_messages_without_steps_make_an_empty_text(fake_client, service):
    service.script = [first(), pb.GenerateResponse(summary=pb.GenerateSummary())]
    found = await fake_client.completions.create(model="demo", prompt="x")
    assert found.choices[0].text == ""
