"""Calls that only read are made again where that can help, and not without end."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pytest
from support.fake_service import SENTENCE, FakeService, Refuse, refuse

from nextok import InvalidArgument, Unavailable


@dataclass
class Flaky(FakeService):
    """Refuses its first calls."""

    failures: int = 0
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE

    def _begin(self, request, context):
        super()._begin(request, context)
        if len(self.requests) <= self.failures:
            refuse(context, Refuse(self.code, "not now"))


@pytest.fixture
def service():
    return Flaky()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
@pytest.mark.parametrize("call", ["get_model", "tokenize", "detokenize"])
async def test_a_reading_call_is_made_three_times_at_most(hands, target, service, call, code):
    service.failures, service.code = 2, code
    arguments = {"get_model": (), "tokenize": (SENTENCE,), "detokenize": ([40],)}[call]
    async with hands.open(target) as client:
        assert await hands.get(getattr(client, call)(*arguments))
    assert len(service.requests) == 3


async def test_what_a_client_asked_wrongly_is_not_asked_again(hands, target, service):
    service.failures, service.code = 9, grpc.StatusCode.INVALID_ARGUMENT
    async with hands.open(target) as client:
        with pytest.raises(InvalidArgument):
            await hands.get(client.get_model())
    assert len(service.requests) == 1


async def test_a_server_in_trouble_gets_each_call_once_after_a_while(hands, target, service):
    service.failures = 10_000
    async with hands.open(target) as client:
        counts = []
        for _ in range(6):
            before = len(service.requests)
            with pytest.raises(Unavailable):
                await hands.get(client.get_model())
            counts.append(len(service.requests) - before)
    assert counts[0] == 3
    assert counts[-3:] == [1, 1, 1]
