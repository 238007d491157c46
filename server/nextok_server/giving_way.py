"""Threads that let every other one go first where they want the same core. Linux only.

Knows the kernel's policies. Does not know what the threads do.

A thread that computes without a pause keeps its core for some 5 ms after another one woke up for
it, and what an answer passes through on its way are half a dozen of these, here and in a client on
the same machine. Its priority (nice) changes nothing about that, nor does the length of its turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AVAILABLE = hasattr(os, "SCHED_IDLE")


def give_way() -> None:
    """Has the calling thread let others go first, and those that it starts from now on."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def call(function: Callable[[], T]) -> T:
    """Calls a function so that the threads that it starts let others go first."""
    with ThreadPoolExecutor(1, "nextok-load", initializer=give_way) as pool:
        return pool.submit(function).result()
