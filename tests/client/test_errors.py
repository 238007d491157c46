"""The map from gRPC statuses to errors, and what is read from a status's details."""

import math
import pickle

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from support.fake_service import PATIENCE_SECONDS, Refuse, generation

from nextok import (
    Client,
    InvalidArgument,
    NextokError,
    ResourceExhausted,
    Unavailable,
    Violation,
)
from nextok.errors import STATUS_ERRORS
from nextok.status_details import StatusDetails, read_status_details


def packed(*details):
    """Returns a google.rpc.Status with these details, serialized by its generated code."""
    status = status_pb2.Status(code=3, message="no")
    for detail in details:
        status.details.add().Pack(detail)
    return status.SerializeToString()


BAD_REQUEST = error_details_pb2.BadRequest(
    field_violations=[
        {"field": "sampling.temperature", "description": "is nan"},
        {"field": "stop_conditions.stop[2]", "description": "ist zu läng"},
    ]
)


def test_every_status_but_ok_has_an_error():
    assert set(STATUS_ERRORS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert all(issubclass(kind, NextokError) for kind in STATUS_ERRORS.values())


@pytest.mark.parametrize("code", STATUS_ERRORS, ids=lambda code: code.name)
def test_a_status_arrives_as_its_error(target, service, code):
    service.refusal = Refuse(code, "because")
    with Client(target) as client, pytest.raises(NextokError) as caught:
        client.get_model()
    assert type(caught.value) is STATUS_ERRORS[code]
    assert (caught.value.code, caught.value.details) == (code, "because")
    assert str(caught.value) == f"{code.name}: because"


def test_a_refused_argument_names_its_fields(target, service):
    details = (("grpc-status-details-bin", packed(BAD_REQUEST)),)
    service.refusal = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "2 fields", details)
    with Client(target) as client, pytest.raises(InvalidArgument) as caught:
        list(client.generate("x"))
    assert caught.value.violations == (
        Violation("sampling.temperature", "is nan"),
        Violation("stop_conditions.stop[2]", "ist zu läng"),
    )
    assert "sampling.temperature: is nan" in str(caught.value)


def test_what_the_text_already_says_is_not_said_twice():
    violation = Violation("text", "is empty")
    error = InvalidArgument(
        grpc.StatusCode.INVALID_ARGUMENT, "text: is empty", violations=(violation,)
    )
    assert str(error) == "INVALID_ARGUMENT: text: is empty"


def test_a_full_server_tells_when_to_come_back(target, service):
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    request = error_details_pb2.RequestInfo(request_id="r-17")
    details = (("grpc-status-details-bin", packed(retry, request)),)
    service.refusal = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", details)
    with Client(target) as client, pytest.raises(ResourceExhausted) as caught:
        client.get_model()
    assert caught.value.retry_after == 1.5
    assert caught.value.request_id == "r-17"
    assert str(caught.value) == "RESOURCE_EXHAUSTED: queue full (request r-17)"


def test_details_of_other_kinds_are_passed_over():
    other = error_details_pb2.DebugInfo(detail="stack")
    assert read_status_details(packed(other, BAD_REQUEST)).violations[0].description == "is nan"
    assert read_status_details(b"") == StatusDetails()


def test_broken_details_do_not_hide_the_status(target, service):
    details = (("grpc-status-details-bin", b"\xff\xff"),)
    service.refusal = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad", details)
    with Client(target) as client, pytest.raises(InvalidArgument, match="bad") as caught:
        client.get_model()
    assert caught.value.violations == ()


def test_details_that_are_not_a_status_are_refused():
    broken = status_pb2.Status(
        details=[Any(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\x0a\x09")]
    )
    with pytest.raises(ValueError, match=r"google\.rpc\.Status"):
        read_status_details(broken.SerializeToString())


def test_errors_survive_pickling():
    error = ResourceExhausted(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.details, copy.retry_after) == (ResourceExhausted, "full", 2.0)


# On both clients.


async def test_a_refused_request_is_an_error_with_what_the_server_said(hands, target, service):
    service.refusal = Refuse(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", (("x-request-id", "r1"),)
    )
    async with hands.open(target) as client:
        for result in (client.tokenize, client.next_token):
            with pytest.raises(ResourceExhausted) as caught:
                await hands.get(result("x"))
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.details == "the queue is full"
            assert caught.value.request_id == "r1"


async def test_an_error_in_midstream_comes_after_the_steps_that_arrived(hands, target, service):
    refusal = Refuse(grpc.StatusCode.UNAVAILABLE, "going away")
    service.script = [*generation("a", "b")[:3], refusal]
    async with hands.open(target) as client:
        running = client.generate("x", resume=0)
        assert (await hands.next(running)).token == "a"
        assert (await hands.next(running)).token == "b"
        with pytest.raises(Unavailable, match="going away"):
            await hands.next(running)
    assert running.text == "ab"
    assert running.finish is None


async def test_a_server_that_is_not_there_is_unavailable(hands, target):
    async with hands.open("127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await hands.get(client.get_model(timeout=PATIENCE_SECONDS))


async def test_a_text_that_utf8_cannot_hold_is_refused_before_it_is_sent(hands, target, service):
    async with hands.open(target) as client:
        with pytest.raises(ValueError, match="prompt: character 1 "):
            client.generate("a\ud800")
        with pytest.raises(ValueError, match="text: "):
            await hands.get(client.tokenize("\udfff"))
        with pytest.raises(ValueError, match="token_ids: Value out of range: -1"):
            await hands.get(client.detokenize([1, -1]))
    assert service.requests == []


async def test_what_only_the_server_can_judge_is_sent_to_it(hands, target, service):
    bad = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "sampling.temperature: nan")
    service.refusal = bad
    async with hands.open(target) as client:
        with pytest.raises(InvalidArgument):
            await hands.all(client.generate("x", temperature=math.nan, max_tokens=0))
