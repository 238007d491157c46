"""Streams that come, go, stall and die, each held against what it gives alone.

The requests are few and drawn once; what each gives when nobody else is there is asked first. From
then on any number of streams of them may run in any disorder: what arrives of each has to be a
beginning of that, to the bit.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from support.proxy import Proxy
from support.serving import generate_request

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok.v1 import types_pb2 as types

# No stream takes nearly as long, on however busy a machine; one that does hangs.
HANGING = 120.0
Code = grpc.StatusCode


def requests(seed: int, count: int, vocabulary: int = 1024) -> list[pb.GenerateRequest]:
    """Requests of all kinds: greedy and drawn, short and long, with and without extras."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        length = dice.choice([1, 2, 63, 64, 65, dice.randint(1, 90)])
        prompt = [dice.randrange(vocabulary - 1) for _ in range(length)]
        if number % 4 == 3:
            prompt = (prompt[:3] * 30)[:length]  # something to draft from
        made.append(
            generate_request(
                prompt,
                seed=number,
                temperature=dice.choice([0.0, 0.7, 1.0, 1.5]),
                top_p=dice.choice([1.0, 0.9]),
                frequency_penalty=dice.choice([0.0, 0.5]),
                max_tokens=dice.randint(2, 36),
                ignore_eos=True,
                top_logprobs=dice.choice([0, 0, 3]),
                prompt_logprobs=number % 5 == 0,
                drafts=number % 4 == 3,
                bypass_prefix_reuse=number % 6 == 0,
            )
        )
    return made


def _bits(value: float) -> bytes:
    return struct.pack("<f", value)


def step_bits(step: types.Step) -> tuple[Any, ...]:
    """What has to be the same of a step."""
    tops = tuple((top.id, _bits(top.logprob), _bits(top.prob)) for top in step.top_logprobs)
    return (step.index, step.id, _bits(step.logprob), _bits(step.entropy), step.delta, tops)


@dataclass
class Received:
    """What came of one stream.

    Attributes:
        steps: The bits of its steps.
        scores: Those of the prompt's tokens.
        digest: The server's own, if the stream came to its end.
        code: How it ended; None where it hung.
    """

    steps: list[tuple[Any, ...]] = field(default_factory=list)
    scores: list[tuple[int, bytes]] = field(default_factory=list)
    digest: str = ""
    code: Code | None = None

    def add(self, message: pb.GenerateResponse) -> None:
        self.steps += map(step_bits, message.steps)
        self.scores += ((score.id, _bits(score.logprob)) for score in message.prompt_logprobs)
        self.digest = self.digest or message.finish.digest

    def begins(self, whole: Received) -> bool:
        """Whether it is the beginning of another one, and all of it where it came to its end."""
        same = whole.steps[: len(self.steps)] == self.steps
        same = same and whole.scores[: len(self.scores)] == self.scores
        if self.code is Code.OK:
            same = same and (whole.steps, whole.digest) == (self.steps, self.digest)
        return same


@dataclass
class Tally:
    """What became of many streams.

    Attributes:
        streams: How many there were, by what their clients did.
        steps: Tokens that were compared.
        wrong: Streams that were not what they are alone.
        unexpected: Streams that ended otherwise than what their clients did leads to.
        hung: Streams that did not end.
    """

    streams: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    wrong: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    hung: int = 0

    @property
    def total(self) -> int:
        return sum(self.streams.values())


Behaviour = Callable[["Chaos", pb.GenerateRequest, Received], Awaitable[None]]


class Chaos:
    """Clients of one server that behave in many ways.

    Args:
        address: HOST:PORT of the server.
        seed: Of everything that is drawn.
        count: Different requests.
        at_once: Streams at the same time.
    """

    def __init__(self, address: str, *, seed: int, count: int = 48, at_once: int = 48) -> None:
        self.dice = random.Random(seed)
        self.tally = Tally()
        self.address = address
        self._requests = requests(seed, count)
        self._whole: list[Received] = []
        self._at_once = at_once
        self.channel = grpc.aio.insecure_channel(address)
        self.stub: Any = pb_grpc.TextGenerationServiceStub(self.channel)

    async def ask_alone(self) -> None:
        """Asks what every request gives while nobody else is there."""
        for request in self._requests:
            whole = Received()
            await read_whole(self, request, whole)
            whole.code = Code.OK
            self._whole.append(whole)

    async def run(
        self,
        mix: Sequence[tuple[float, str]],
        go_on: Callable[[], bool],
    ) -> Tally:
        """Starts streams, whose clients do what the mix says, for as long as it is to go on.

        Args:
            mix: Shares and names of behaviours.
            go_on: Asked before every stream.
        """
        names = [name for _, name in mix]
        shares = [share for share, _ in mix]

        async def one_after_another() -> None:
            while go_on():
                (name,) = self.dice.choices(names, shares)
                await self._one(name, self.dice.randrange(len(self._requests)))

        await asyncio.gather(*(one_after_another() for _ in range(self._at_once)))
        return self.tally

    async def _one(self, name: str, number: int) -> None:
        behaviour, codes = BEHAVIOURS[name]
        received = Received()
        tally = self.tally
        tally.streams[name] += 1
        try:
            async with asyncio.timeout(HANGING):
                await behaviour(self, self._requests[number], received)
            received.code = Code.OK
        except TimeoutError:
            tally.hung += 1
            return
        except grpc.aio.AioRpcError as error:
            received.code = error.code()
            if error.code() not in codes:
                tally.unexpected.append(f"{name} {number}: {error.code()} {error.details()}")
        except asyncio.CancelledError:
            received.code = Code.CANCELLED
            if name != "cancel":
                raise
        tally.steps += len(received.steps)
        if not received.begins(self._whole[number]):
            tally.wrong.append(f"{name} {number} after {len(received.steps)} steps")

    async def close(self) -> None:
        await self.channel.close()


async def read(call: Any, received: Received, most: int = 1 << 30) -> bool:
    """Reads so many messages, or all; tells whether the stream has ended."""
    for _ in range(most):
        if (message := await call.read()) is grpc.aio.EOF:
            return True
        received.add(message)
    return False


async def read_whole(chaos: Chaos, request: pb.GenerateRequest, received: Received) -> None:
    await read(chaos.stub.Generate(request), received)


async def cancel(chaos: Chaos, request: pb.GenerateRequest, received: Received) -> None:
    """Leaves after some messages, or before the first."""
    call = chaos.stub.Generate(request)
    if not await read(call, received, chaos.dice.randrange(4)):
        call.cancel()
        raise asyncio.CancelledError


async def deadline(chaos: Chaos, request: pb.GenerateRequest, received: Received) -> None:
    """Gives it too little time, most often."""
    await read(chaos.stub.Generate(request, timeout=chaos.dice.uniform(0.001, 0.05)), received)


async def stall(chaos: Chaos, request: pb.GenerateRequest, received: Received) -> None:
    """Reads something, then nothing for a while, then the rest."""
    call = chaos.stub.Generate(request)
    await read(call, received, 1)
    await asyncio.sleep(chaos.dice.uniform(0.05, 0.3))
    await read(call, received)


async def die(chaos: Chaos, request: pb.GenerateRequest, received: Received) -> None:
    """Its connection is reset in the middle."""
    async with Proxy(chaos.address) as proxy:
        options = [("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(proxy.target, options=options) as channel:
            call = pb_grpc.TextGenerationServiceStub(channel).Generate(request)
            if not await read(call, received, chaos.dice.randint(1, 3)):
                proxy.kill()
                await read(call, received)


async def ask_badly(chaos: Chaos, request: pb.GenerateRequest, received: Received) -> None:
    """Asks for something out of range."""
    bad = pb.GenerateRequest()
    bad.CopyFrom(request)
    chaos.dice.choice(
        [
            lambda: bad.prompt.token_ids.ids.append(1 << 31),
            lambda: setattr(bad.sampling, "temperature", float("nan")),
            lambda: setattr(bad.stop_conditions, "max_tokens", 0),
            lambda: bad.stop_conditions.stop.append("x" * 10_000),
        ]
    )()
    async for _ in chaos.stub.Generate(bad):
        raise AssertionError("a bad request was answered")


BEHAVIOURS: dict[str, tuple[Behaviour, tuple[Code, ...]]] = {
    "read": (read_whole, ()),
    "cancel": (cancel, ()),
    # Refused at once where the queue alone takes longer.
    "deadline": (deadline, (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)),
    "stall": (stall, ()),
    "die": (die, (Code.UNAVAILABLE,)),
    "bad": (ask_badly, (Code.INVALID_ARGUMENT,)),
}
