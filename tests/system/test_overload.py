"""Reliability 7: ten times what it can do does not keep a server from doing it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import statistics
import time
from dataclasses import dataclass, field

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from support.checkpoints import make_checkpoint
from support.exports import Exports
from support.light_client import Answer, LightClient
from support.once import once
from support.serving import generate_request
from support.slow_moments import NAP_SECONDS, SlowMoments, Span, slow_moments, spans_of

from nextok.v1 import text_generation_pb2 as pb

SLOTS, QUEUE = 4, 8
# One connection lasts as long as the test.
AGE = ("--max-connection-age", "3600")
FLAGS = ("--slots", str(SLOTS), "--max-queue", str(QUEUE), "--give-way", *AGE)
LEAST_GOODPUT = 0.95
MOST_SECONDS = 0.01
# The part of a load's time in which streams begin that are not in step with each other.
BEGINNING = 0.25
SEED = 7
# So many that none is computed again while anything of it may be remembered.
PROMPTS = 2000


@dataclass(frozen=True)
class Work:
    """What each request is for.

    Attributes:
        prompt: Tokens, each time others.
        tokens: To be generated.
    """

    prompt: int
    tokens: int


SHORT = Work(4, 100)
# As one stream has in the comparison with other engines.
FULL = Work(64, 128)


@dataclass
class Load:
    """What came of requests that were sent one after the other or at a rate.

    Attributes:
        work: What each was for.
        first: From when on tokens are counted, by time.monotonic(): all slots are taken by then.
        last: Until when: the last streams run out after it.
        answers: To all of them.
    """

    work: Work
    first: float
    last: float
    answers: list[Answer] = field(default_factory=list)

    def rate(self) -> float:
        """Tokens a second, of streams that came to their end, while all slots were taken.

        How long it takes until they are, and until the last streams have run out, depends on how
        streams happened to begin, not on what is refused.
        """
        counted = sum(
            tokens
            for steps in map(_steps, self.answers)
            if sum(tokens for _, tokens in steps) == self.work.tokens
            for at, tokens in steps
            if self.first <= at < self.last
        )
        return counted / (self.last - self.first)

    def refusals(self) -> list[Span]:
        """From when to when each took of which nothing else came."""
        return [(answer.began, answer.ended) for answer in self.answers if not answer.data]

    def wrong(self) -> list[str]:
        """Of each that is neither whole nor refused as it should be, what came."""
        return [
            f"{answer.headers} after {_steps(answer)}"
            for answer in self.answers
            if not (
                sum(tokens for _, tokens in _steps(answer)) == self.work.tokens
                if answer.data
                else _says_when(answer)
            )
        ]


def _steps(answer: Answer) -> list[tuple[float, int]]:
    """When tokens came, and how many."""
    return [(at, len(pb.GenerateResponse.FromString(data).steps)) for at, data in answer.messages()]


def _says_when(answer: Answer) -> bool:
    """Whether a refusal is one, and says when to come back."""
    details = answer.headers.get("grpc-status-details-bin", "")
    status = status_pb2.Status.FromString(base64.b64decode(f"{details}=="))
    info = error_details_pb2.RetryInfo()
    full = answer.headers["grpc-status"] == str(code_pb2.RESOURCE_EXHAUSTED)
    return full and any(detail.Unpack(info) for detail in status.details)


class Loader:
    """Sends requests; each is for the same work."""

    def __init__(self, client: LightClient, work: Work) -> None:
        self._client = client
        self._work = work
        self._dice = random.Random(SEED)
        # Made beforehand, since who makes them while the server computes takes processor time.
        self._requests = itertools.cycle([self._request() for _ in range(PROMPTS)])

    def _request(self) -> bytes:
        prompt = [self._dice.randrange(1000) for _ in range(self._work.prompt)]
        request = generate_request(prompt, max_tokens=self._work.tokens, ignore_eos=True)
        data: bytes = request.SerializeToString()
        return data

    async def one(self, load: Load) -> None:
        """Sends one request."""
        load.answers.append(await self._client.call(next(self._requests)))

    async def all_it_can(self, seconds: float) -> Load:
        """As many streams as it computes, and one more for each slot, one after the other.

        Like those that come at random times, they do not run in step with each other: together
        they would start, and their prompts be computed, at once.
        """
        began = time.monotonic()
        load = Load(self._work, began + seconds * BEGINNING, began + seconds)

        async def go_on() -> None:
            await asyncio.sleep(self._dice.uniform(0, seconds * BEGINNING))
            while time.monotonic() < began + seconds:
                await self.one(load)

        await asyncio.gather(*(go_on() for _ in range(2 * SLOTS)))
        return load

    async def at_rate(self, factor: float, of: Load, seconds: float) -> Load:
        """Requests that come at random times, so many times as another load's were answered."""
        began = time.monotonic()
        load = Load(self._work, began + seconds * BEGINNING, began + seconds)
        rate = factor * of.rate() / self._work.tokens
        due, tasks = began, []
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(self.one(load)))
            due += self._dice.expovariate(rate)
        await asyncio.gather(*tasks)
        return load


@dataclass
class Overload:
    """What came of all that it can do and of more than that, in turns.

    Attributes:
        ratios: Of goodput, by the factor of overload.
        refusals: As of Load, of each time at ten times.
        wrong: As of Load.
    """

    ratios: dict[int, list[float]] = field(default_factory=dict)
    refusals: list[list[Span]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def goodput(self, factor: int) -> float:
        """As a part of what it can do: the median."""
        return statistics.median(self.ratios[factor])

    def refused(self, without: SlowMoments) -> int:
        """How many refusals are judged."""
        return sum(len(without.judged(load)) for load in self.refusals)


async def overload(address: str, work: Work, factors: tuple[int, ...], seconds: float) -> Overload:
    """Loads a server by so many times what it can do, one factor after the other.

    What it can do is measured before and after each, since the machine's speed changes.
    """
    async with LightClient(address, "Generate") as client:
        loader = Loader(client, work)
        await loader.all_it_can(seconds / 2)
        able = [await loader.all_it_can(seconds)]
        loads = []
        for factor in factors:
            loads.append(await loader.at_rate(factor, able[-1], seconds))
            able.append(await loader.all_it_can(seconds))
    found = Overload({factor: [] for factor in factors})
    for number, (factor, load) in enumerate(zip(factors, loads, strict=True)):
        rates = [around.rate() for around in able[number : number + 2]]
        found.ratios[factor].append(load.rate() / statistics.mean(rates))
        if factor == 10:
            found.refusals.append(load.refusals())
    found.wrong = [text for load in (*able, *loads) for text in load.wrong()]
    return found


@pytest.fixture
def artifact(artifacts, figures, tmp_path_factory):
    """In the long form of GPT-2's own size: beside its steps, a refusal costs little."""
    if not figures.minutes:
        return artifacts["fp32"]
    checkpoint = once(
        tmp_path_factory,
        "full-size",
        lambda folder: make_checkpoint(folder, layers=12, width=768, heads=12, context=1024),
    )
    return Exports(tmp_path_factory, checkpoint)["int8"]


async def test_goodput_under_ten_times_the_load_is_that_under_all_it_can_do(
    start, artifact, figures
):
    _, address = start(*FLAGS, artifact=artifact)
    # As many at ten times as at all others, since that is what is judged.
    factors = (1, 10, 2, 10, 5, 10) * 6 if figures.minutes else (10,)
    work, seconds = (FULL, 6.0) if figures.minutes else (SHORT, 2.0)
    with slow_moments() as slow:
        found = await overload(address, work, factors, seconds)
    goodput, slowest = found.goodput(10), slow.p99(found.refusals)
    steps = ", ".join(
        f"{found.goodput(factor):.2f} at {factor}x" for factor in sorted(set(factors))
    )
    figures.add(
        7,
        f"overload: goodput {steps} of all it can do (bound: 0.95 at 10x), {found.refused(slow)} "
        f"refusals, p99 {slowest * 1000:.1f} ms (bound: 10; "
        f"{SlowMoments().p99(found.refusals) * 1000:.1f} with those of {slow.seconds:.1f} s in "
        "which the machine itself was slow); bounds of time in the long form",
        goodput=round(goodput, 3),
        refusals=found.refused(slow),
        refusal_p99_seconds=round(slowest, 4),
    )
    assert found.wrong == []
    assert found.refused(slow) > 0
    if figures.minutes:
        assert goodput >= LEAST_GOODPUT
        assert slowest < MOST_SECONDS


async def test_the_check_finds_refusals_that_take_their_time(start, artifacts):
    _, address = start(*FLAGS, artifact=artifacts["fp32"], fault="slow_refusals")
    with slow_moments() as slow:
        found = await overload(address, SHORT, (10,), 1.0)
    assert slow.p99(found.refusals) > MOST_SECONDS


def test_a_refusal_is_judged_unless_the_machine_was_slow_meanwhile():
    slow = SlowMoments(spans=[(2.0, 3.0)])
    refusals = [(1.0, 1.5), (1.9, 2.1), (2.4, 2.6), (2.9, 3.1), (1.0, 4.0), (3.5, 3.6)]
    found = Overload(refusals=[refusals])
    assert found.refused(slow) == 2
    assert found.refused(SlowMoments()) == 6


def test_a_moment_is_slow_where_the_machine_wakes_up_late_or_counts_slowly_twice_in_a_row():
    naps, now = [], 0.0
    for number in range(100):
        late = 0.02 if number == 20 else 0.0
        counting = 1e-4 if number in (40, 60, 61, 62) else 1e-5
        naps.append((now, now + NAP_SECONDS + late, now + NAP_SECONDS + late + counting))
        now = naps[-1][-1]
    assert spans_of(naps) == [(naps[20][0], naps[20][2]), (naps[60][0], naps[62][2])]
