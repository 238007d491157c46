"""Reliability 3: whenever and however a client leaves, its slot is free by the next step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
from support.leaving import Cancels, IsKilled, IsLate, Leaver, Resets
from support.serving import Running, generate_request, running_server
from support.stages import Stages

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.engine import Engine

# Words of one token, so many that the text is tokenized on a thread of its own.
TEXT = " telecommunications" * 109
PROMPT = 109
MAX_TOKENS = 8
WAYS = (Cancels, IsLate, Resets, IsKilled)


@dataclass
class Matrix:
    """Leaves a server in every way at every stage.

    Attributes:
        late: Cases after which the leaver was computed once more, and for how many calls.
        cases: How many there were.
    """

    running: Running
    stages: Stages
    late: dict[str, int] = field(default_factory=dict)
    cases: int = 0

    async def case(self, stage: Stage, way: type[Leaver]) -> None:
        """One stage, one way."""
        seconds = 0.5
        # A deadline that passes before the stage is reached shows nothing.
        while not await self._try(stage, way, seconds):
            seconds *= 4
            assert seconds < 200, (stage.name, way)
        self.cases += 1

    async def _try(self, stage: Stage, way: type[Leaver], seconds: float) -> bool:
        stages, runner = self.stages, self.running.app._runner
        blocker = await stage.prepare(self) if stage.prepare else None
        stages.written = stages.given_up = 0
        stage.hold(stages)
        async with way(self.running.target) as leaver:
            await leaver.start(ASKED, seconds)
            held = asyncio.ensure_future(stage.reached(self))
            if way is IsLate:
                over = asyncio.ensure_future(leaver.call.code())
                await asyncio.wait((held, over), return_when=asyncio.FIRST_COMPLETED)
                if not held.done():
                    held.cancel()
                    stages.open()
                    if blocker is not None:
                        blocker.cancel()
                    await _until(lambda: len(runner) == 0)
                    return False
            await held
            if stage.admitted:
                follower = await self._follow()
            await leaver.leave()
            if stage.admitted:
                await _until(lambda: len(runner) == 1 + (blocker is not None))
            else:
                await _until(lambda: stages.given_up == 1)
            if blocker is not None:
                blocker.cancel()
                await _until(lambda: len(runner) == 1)
        first = len(stages.calls) + stage.before
        stages.open()
        if not stage.admitted:
            follower = await self._follow()
        while await follower.read() is not grpc.aio.EOF:
            pass
        await _until(lambda: len(runner) == 0)
        begins = [call[0].start == 0 and call[0].tokens[:2] == [7, 7] for call in stages.calls]
        if late := begins.index(True, first if stage.admitted else 0) - first:
            self.late[f"{stage.name}, {way.__name__}"] = late
        stages.calls.clear()
        return True

    async def _follow(self) -> grpc.aio.UnaryStreamCall:
        """Puts a request in the queue behind the one that leaves."""
        follower = self.running.stub.Generate(FOLLOWER)
        await follower.read()
        return follower


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.001)


ASKED = generate_request(TEXT, max_tokens=MAX_TOKENS, ignore_eos=True)
FOLLOWER = generate_request([7] * 20, max_tokens=2, ignore_eos=True)


@dataclass(frozen=True)
class Stage:
    """Where a request is when its client leaves.

    Attributes:
        name: Of the stage.
        hold: Sees to it that the request stops there.
        reached: Waits until it is there.
        before: Calls that were planned before, and may still be made.
        admitted: Whether it has a place in the queue.
        prepare: Starts a stream that takes the only slot, and is held.
    """

    name: str
    hold: Callable[[Stages], None]
    reached: Callable[[Matrix], Awaitable[None]]
    before: int = 1
    admitted: bool = True
    prepare: Callable[[Matrix], Awaitable[grpc.aio.UnaryStreamCall]] | None = None


async def _occupied(matrix: Matrix) -> grpc.aio.UnaryStreamCall:
    call = matrix.running.stub.Generate(generate_request([9, 9, 9], ignore_eos=True))
    await call.read()
    await call.read()
    matrix.stages.before.hold(lambda _: True)
    await matrix.stages.before.is_held()
    return call


async def _queued(matrix: Matrix) -> None:
    await _until(lambda: len(matrix.running.app._runner) == 2)


async def _tokenizing(matrix: Matrix) -> None:
    await matrix.stages.tokenizer.is_held()


async def _before(matrix: Matrix) -> None:
    await matrix.stages.before.is_held()


async def _after(matrix: Matrix) -> None:
    await matrix.stages.after.is_held()


async def _written(matrix: Matrix) -> None:
    await matrix.stages.before.is_held()
    await _until(lambda: matrix.stages.written == 2)


STAGES = [
    Stage("queued", lambda _: None, _queued, prepare=_occupied),
    Stage(
        "tokenizing",
        lambda stages: stages.tokenizer.hold(lambda text: text == TEXT),
        _tokenizing,
        before=0,
        admitted=False,
    ),
    Stage(
        "mid-prefill",
        lambda stages: stages.before.hold(lambda chunks: 0 < chunks[0].start < PROMPT - 32),
        _before,
    ),
    Stage(
        "first token",
        lambda stages: stages.after.hold(
            lambda chunks: chunks[0].start + len(chunks[0].tokens) == PROMPT
        ),
        _after,
        before=0,
    ),
    Stage(
        "mid-decode",
        lambda stages: stages.after.hold(lambda chunks: chunks[0].start == PROMPT + 3),
        _after,
        before=0,
    ),
    Stage(
        "between write and step",
        lambda stages: stages.before.hold(lambda chunks: chunks[0].start == PROMPT + 1),
        _written,
    ),
    Stage(
        "last token",
        lambda stages: stages.after.hold(lambda chunks: chunks[0].start == PROMPT + MAX_TOKENS - 2),
        _after,
        before=0,
    ),
]


async def leave_everywhere(artifact, stages: Stages, rounds: int) -> Matrix:
    async with running_server(artifact, slots=1, prefill_chunk=8, prefix_reuse=False) as running:
        tokens = await running.stub.Tokenize(pb.TokenizeRequest(text=TEXT))
        assert len(tokens.tokens) == PROMPT
        matrix = Matrix(running, stages)
        for stage in STAGES * rounds:
            for way in WAYS:
                await matrix.case(stage, way)
    return matrix


async def test_a_slot_is_free_by_the_next_step_whenever_its_client_leaves(
    artifacts, monkeypatch, figures
):
    rounds = 30 if figures.minutes else 1
    matrix = await leave_everywhere(artifacts["fp32"], Stages(monkeypatch), rounds)
    figures.add(
        3,
        f"cancel matrix: {len(matrix.late)} of {matrix.cases} slots not free by the next step "
        f"(bound: 0; {len(STAGES)} stages, {len(WAYS)} ways)",
        cases=matrix.cases,
        late=len(matrix.late),
    )
    assert matrix.late == {}
    assert matrix.cases == len(STAGES) * len(WAYS) * rounds


async def test_the_check_finds_streams_that_are_computed_once_more(artifacts, monkeypatch):
    cancel, step = Engine.cancel, Engine.step
    cancelled = []

    def step_first(self):
        events = step(self)
        while cancelled:
            cancel(self, cancelled.pop())
        return events

    monkeypatch.setattr(Engine, "cancel", lambda _, sequence: cancelled.append(sequence))
    monkeypatch.setattr(Engine, "step", step_first)
    async with asyncio.timeout(60):
        matrix = await leave_everywhere(artifacts["fp32"], Stages(monkeypatch), 1)
    assert {case.split(",")[0] for case in matrix.late} >= {"queued", "mid-prefill", "mid-decode"}
