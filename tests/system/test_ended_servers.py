"""Reliability 8 and 9: a server that is stopped or killed under its streams loses none."""

from __future__ import annotations

import functools
import signal

import pytest
from support.replicas import Replicas

DRAIN_SECONDS = 2.0


@pytest.fixture
def start_one(start, small):
    flags = ("--drain-seconds", str(DRAIN_SECONDS), "--stream-window", "8")
    return functools.partial(start, *flags, artifact=small["int8"])


async def test_streams_of_a_killed_server_go_on_elsewhere_to_the_bit(start_one, figures):
    kills = 100 if figures.minutes else 20
    ended = await Replicas(start_one).rounds(kills, signal.SIGKILL)
    whole = ended.streams - len(ended.lost) - len(ended.different)
    figures.add(
        9,
        f"crash: {whole} of {ended.streams} streams whole and identical after {kills} SIGKILLs "
        f"(bound: all; {ended.resumed} resumed)",
        kills=kills,
        streams=ended.streams,
        whole=whole,
        resumed=ended.resumed,
    )
    assert ended.lost == []
    assert ended.different == []
    assert ended.resumed >= kills
    assert ended.exits == [-signal.SIGKILL] * kills


async def test_streams_of_a_server_that_is_stopped_are_not_lost(start_one, figures):
    stops = 100 if figures.minutes else 3
    ended = await Replicas(start_one).rounds(stops, signal.SIGTERM)
    slowest = max(ended.seconds)
    figures.add(
        8,
        f"drain: {len(ended.lost)} of {ended.streams} streams lost in {stops} SIGTERMs (bound: "
        f"0), exits {set(ended.exits)} (bound: 0) after {slowest:.2f} s at most (bound: "
        f"{DRAIN_SECONDS + 1:g}, for a stream that is not read)",
        stops=stops,
        streams=ended.streams,
        lost=len(ended.lost),
        slowest_seconds=round(slowest, 2),
    )
    assert ended.lost == []
    assert ended.different == []
    assert set(ended.exits) == {0}
    # On a machine with other things to do a process may wait long for its last instructions.
    if figures.minutes:
        assert slowest < DRAIN_SECONDS + 1


async def test_the_check_finds_streams_that_are_not_gone_on_with(start_one):
    # Several, since in one of them all streams may be the other server's, where that is sooner
    # connected to.
    ended = await Replicas(start_one, resume=0).rounds(3, signal.SIGKILL)
    assert ended.lost


async def test_the_check_finds_a_replica_with_other_bits(start_one):
    faulty = functools.partial(start_one, fault="flipped_bit")
    kinds = iter([start_one, faulty, start_one])
    ended = await Replicas(lambda: next(kinds)()).rounds(1, signal.SIGKILL)
    assert ended.different
