"""nextok-server with a fault of our making, to show that a test would find it.

python faulty_server.py FAULT[+FAULT...] ARTIFACT [flags]
"""

from __future__ import annotations

import itertools
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import __main__ as program
from nextok_server import logs, service, watchdog
from nextok_server.access import Access
from nextok_server.engine import Engine
from nextok_server.errors import DeadlineTooShort
from nextok_server.fair_queue import FairQueue
from nextok_server.outgoing import Outgoing
from nextok_server.quotas import Quotas
from nextok_server.room import Room
from nextok_server.runner import Runner
from nextok_server.tokenizer import Tokenizer

_LEAK_BYTES = 256 << 10
SLOW_STEP_SECONDS = 0.2


def flipped_bit() -> None:
    """Every hundredth message has one wrong bit."""
    real, count = Outgoing.write, itertools.count(1)

    async def write(self, message):
        if isinstance(message, bytes):  # a message with steps, encoded already
            told = pb.GenerateResponse.FromString(message)
            if told.steps and next(count) % 100 == 0:
                # The float above or below: its last bit, at most.
                told.steps[0].logprob *= 1 + 2.0**-23
                message = told
        await real(self, message)

    Outgoing.write = write


def unbounded() -> None:
    """Streams may be behind as far as they like."""
    service.window = lambda *_: 1_000_000


def leak() -> None:
    """Something is kept of every stream that is given up."""
    real, kept = Runner.cancel, []

    def cancel(self, stream):
        kept.append(b"x" * _LEAK_BYTES)
        real(self, stream)

    Runner.cancel = cancel


def lost_slot() -> None:
    """The first streams that are given up while they run keep their slots."""
    real = Engine.cancel
    lost = []

    def cancel(self, sequence):
        if sequence.slot >= 0 and not sequence.finished and len(lost) < 8:
            lost.append(sequence)
            sequence.read = -1_000_000  # paused for ever
            return
        real(self, sequence)

    Engine.cancel = cancel


def waiting() -> None:
    """A step waits a little for those who are behind."""
    real = Engine.step

    def step(self):
        if any(sequence.paused for sequence in self.scheduler._running):
            time.sleep(0.02)
        return real(self)

    Engine.step = step


def slow_refusals() -> None:
    """It takes a while to find out that the queue is full."""
    real = Room.check

    def check(self, tokens):
        if len(self) >= self._limit:
            time.sleep(0.02)
        return real(self, tokens)

    Room.check = check


def unfair() -> None:
    """Whoever asks for more gets more."""
    real = FairQueue.add

    def add(self, sequence, running):
        sequence.caller = "anybody"
        real(self, sequence, running)

    FairQueue.add = add


def talkative() -> None:
    """The log has what is tokenized."""
    real = Tokenizer.encode

    def encode(self, text):
        structlog.get_logger().info("tokenized", text=text)
        return real(self, text)

    Tokenizer.encode = encode


def slow_steps() -> None:
    """No fault: a machine whose steps take long."""
    real = Engine.step

    def step(self):
        # In parts: a process that was stopped in the midst of a step has the rest before it.
        for _ in range(4):
            time.sleep(SLOW_STEP_SECONDS / 4)
        return real(self)

    Engine.step = step


def hasty_watchdog() -> None:
    """The watchdog takes all that passes on the wall clock for the engine's time."""
    watchdog.Watchdog.__init__.__defaults__ = (time.time,)
    watchdog.min = lambda passed, _most: passed


def wall_clock() -> None:
    """Nothing is timed by another clock."""
    time.monotonic = time.time


def wall_clock_deadlines() -> None:
    """A deadline is a time on the wall clock."""
    begin, write = Outgoing.__init__, Outgoing.write

    def begin_with_deadline(self, context, *args):
        begin(self, context, *args)
        left = context.time_remaining()
        self.until = float("inf") if left is None else time.time() + left

    async def write_in_time(self, message):
        if time.time() > self.until:
            raise DeadlineTooShort(0.0, 0.0)
        await write(self, message)

    Outgoing.__init__, Outgoing.write = begin_with_deadline, write_in_time


def wall_clock_quotas() -> None:
    """A caller's tokens come back by the wall clock."""
    Quotas.__init__.__defaults__ = (time.time,)


def steady_expiry() -> None:
    """The time of day is asked for once, and counted on from there."""
    since = datetime.now(UTC) - timedelta(seconds=time.monotonic())
    Access.__init__.__defaults__ = (lambda: since + timedelta(seconds=time.monotonic()),)


def log_or_fail() -> None:
    """A line of the log that cannot be written is an error."""
    logs._Unfailing = lambda stream: stream


def _at_each_request(do) -> None:
    real = Runner.admit

    def admit(self, *args):
        do(Path(sys.argv[1]))
        return real(self, *args)

    Runner.admit = admit


def write_files() -> None:
    """Something is written beside the artifact for each request."""
    _at_each_request(lambda artifact: (artifact / "cache").write_text("x", encoding="ascii"))


def open_files() -> None:
    """A file is opened for each request."""
    _at_each_request(lambda artifact: (artifact / "manifest.json").read_bytes())


if __name__ == "__main__":
    for fault in sys.argv.pop(1).split("+"):
        globals()[fault]()
    program.main()
