"""What the operating system tells of a process and its children. Linux; nothing elsewhere.

Knows: /proc. Does not know: what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of the tree so far."""
    total = 0.0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * TICK
    return total


def resident_bytes(pid: int) -> int:
    """Memory of the tree that is in use."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE
    return total


def cpu_shares(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """How many processors each tree keeps busy, over some time."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    return {name: (cpu_seconds(pid) - before[name]) / seconds for name, pid in pids.items()}


def settle(pid: int, *, limit: float = 1.0) -> None:
    """Waits until the tree computes no more.

    OpenMP and ONNX Runtime let their threads spin for a while after the work is done (OpenMP up
    to 0.2 s), and a spinning thread takes a core from the next one to be measured.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.05)
        if cpu_seconds(pid) - before <= TICK:
            return


def kill(pid: int) -> None:
    """Ends the tree at once."""
    for each in reversed(tree(pid)):
        with contextlib.suppress(OSError):
            os.kill(each, signal.SIGKILL)
