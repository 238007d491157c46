"""Reliability 1: whatever the neighbours do, a stream is what it is alone."""

from __future__ import annotations

import itertools

import pytest
from support.traffic import Chaos, Tally

MIX = [(50, "read"), (15, "cancel"), (15, "stall"), (15, "deadline"), (5, "die")]
SEED = 1


async def under_chaos(address: str, streams: int) -> Tally:
    """Runs streams among others that join, leave, stall and die, on one server."""
    chaos = Chaos(address, seed=SEED)
    await chaos.ask_alone()
    started = itertools.count()
    tally = await chaos.run(MIX, lambda: next(started) < streams)
    await chaos.close()
    return tally


# At int8, activations are rounded: a neighbour in one's row would show at once.
@pytest.mark.parametrize("precision", ["int8"])
async def test_streams_in_chaos_are_to_the_bit_what_they_are_alone(
    start, small, precision, figures
):
    _, address = start("--slots", "16", artifact=small[precision])
    streams = 20_000 if figures.minutes else 2000
    tally = await under_chaos(address, streams)
    figures.add(
        1,
        f"oracle under chaos: {len(tally.wrong)} of {tally.total} streams differ from alone "
        f"(bound: 0; seed {SEED}, {tally.steps} steps compared)",
        streams=tally.total,
        steps=tally.steps,
        wrong=len(tally.wrong),
    )
    assert tally.wrong == []
    assert tally.unexpected == []
    assert tally.hung == 0
    assert tally.total == streams


async def test_the_check_fails_where_one_bit_in_a_hundred_messages_is_wrong(start, small):
    _, address = start(artifact=small["int8"], fault="flipped_bit")
    assert (await under_chaos(address, 60)).wrong
