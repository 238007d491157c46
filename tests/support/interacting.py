"""Interact over the wire: requests with flat names, and a client that keeps track of nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from support.serving import Running, generate_request

from nextok.v1 import text_generation_pb2 as pb


def start_request(prompt: str | Iterable[int], **fields: Any) -> pb.InteractRequest:
    """What a call begins with; fields are those of SamplingParams and LogprobOptions."""
    whole = generate_request(prompt, **fields)
    start = pb.StartAction(prompt=whole.prompt, sampling=whole.sampling, logprobs=whole.logprobs)
    if whole.HasField("constraint"):
        start.constraint.CopyFrom(whole.constraint)
    return pb.InteractRequest(start=start)


def action(kind: str, branch: int | None = None, **fields: Any) -> pb.InteractRequest:
    """An action; `sampling` is a dict, `tokens` ids or a text."""
    request = pb.InteractRequest(branch_id=branch)
    message = getattr(request, kind)
    message.SetInParent()
    for name, value in fields.items():
        if name == "tokens":
            message.tokens.CopyFrom(generate_request(value).prompt)
        elif name == "sampling":
            message.sampling.CopyFrom(generate_request([0], **value).sampling)
            message.sampling.SetInParent()
        else:
            setattr(message, name, value)
    return request


class Session:
    """One call: what is sent, and the answers as they come."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self.call = call

    async def send(self, *requests: pb.InteractRequest) -> None:
        """Sends requests. Where the call has ended before, `read` tells how: some are refused
        before anything of them is read."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for request in requests:
                await self.call.write(request)

    async def read(self) -> pb.InteractResponse:
        """The next answer.

        Raises:
            grpc.aio.AioRpcError: The call ended with an error.
        """
        message = await self.call.read()
        if message is grpc.aio.EOF:
            code = await self.call.code()
            assert code is grpc.StatusCode.OK, code
            raise EOFError
        return message

    async def do(self, kind: str, branch: int | None = None, **fields: Any) -> pb.InteractResponse:
        """Sends an action with one answer, and reads that."""
        await self.send(action(kind, branch, **fields))
        return await self.read()

    async def stop(self) -> pb.InteractResponse:
        """Ends the call in order."""
        answer = await self.do("stop")
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK
        return answer


@contextlib.asynccontextmanager
async def session(
    running: Running, prompt: str | Iterable[int], **fields: Any
) -> AsyncIterator[tuple[Session, pb.InteractResponse]]:
    """A call that has begun, and the answer to that; given up at the end if it is not over."""
    timeout = fields.pop("timeout", None)
    metadata = fields.pop("metadata", None)
    call = running.stub.Interact(timeout=timeout, metadata=metadata)
    one = Session(call)
    try:
        await one.send(start_request(prompt, **fields))
        yield one, await one.read()
    finally:
        call.cancel()
