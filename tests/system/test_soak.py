"""Reliability 2: hours of a mix of good, bad, slow, impatient and dying clients."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from support.processes import free_slots, resident
from support.traffic import Chaos, Tally

SLOTS = 16
SHORT_SECONDS = 15.0
SEED = 2
MIX = [
    (70, "read"),
    (10, "cancel"),
    (5, "deadline"),
    (5, "die"),
    (5, "stall"),
    (5, "bad"),
]
# Of the time, for caches and pools to fill; what grows afterwards grows for ever.
WARM_UP = 0.4
MOST_GROWTH = 8 << 20


@dataclass(frozen=True)
class Soaked:
    """What a server was after a while of the mix.

    Attributes:
        tally: Its streams.
        growth: Bytes of memory between the end of the warm-up and the end.
        lost_slots: Slots that are not free, though nobody is there.
    """

    tally: Tally
    growth: int
    lost_slots: int


async def soak(process: Any, address: str, seconds: float) -> Soaked:
    """Runs the mix for a while."""
    chaos = Chaos(address, seed=SEED, at_once=SLOTS * 2)
    await chaos.ask_alone()
    began = time.monotonic()

    def passed() -> float:
        return (time.monotonic() - began) / seconds

    await chaos.run(MIX, lambda: passed() < WARM_UP)
    before = resident(process.pid)
    await chaos.run(MIX, lambda: passed() < 1)
    growth = resident(process.pid) - before
    lost = SLOTS - await free_slots(address, SLOTS)
    await chaos.close()
    return Soaked(chaos.tally, growth, lost)


async def test_a_mix_of_clients_leaves_nothing_wrong_hung_lost_or_grown(
    start, small, figures, soak_seconds
):
    process, address = start("--slots", str(SLOTS), artifact=small["int8"])
    seconds = soak_seconds or SHORT_SECONDS
    found = await soak(process, address, seconds)
    tally = found.tally
    figures.add(
        2,
        f"soak, {seconds / 60:.1f} minutes, {tally.total} streams: {len(tally.wrong)} wrong, "
        f"{tally.hung} hung, {found.lost_slots} slots lost (bounds: 0), "
        f"{found.growth / 2**20:.1f} MB of growth after warm-up (bound: 8)",
        seconds=round(seconds),
        streams=tally.total,
        wrong=len(tally.wrong),
        hung=tally.hung,
        unexpected=len(tally.unexpected),
        lost_slots=found.lost_slots,
        growth_bytes=found.growth,
    )
    assert tally.wrong == []
    assert tally.unexpected == []
    assert tally.hung == 0
    assert found.lost_slots == 0
    assert found.growth < MOST_GROWTH
    assert set(tally.streams) == {name for _, name in MIX}


async def test_the_check_finds_memory_that_is_kept(start, small):
    process, address = start("--slots", str(SLOTS), artifact=small["int8"], fault="leak")
    assert (await soak(process, address, 6.0)).growth > MOST_GROWTH


@pytest.fixture
def soak_seconds(figures):
    """For the long form: what is left of its minutes, and half of them at least."""
    if not figures.minutes:
        return 0.0
    return max(figures.minutes / 2, figures.minutes - figures.passed / 60) * 60
