"""What is made once a run, by whichever of its processes needs it first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills, unless another of the processes that share the tests has.

    Args:
        factory: Knows where files of this run belong.
        name: Of the folder, one of the run's own.
        make: Is given a folder that is not there.
    """
    # Beside pytest-xdist's workers each has a folder in one that they share.
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_name(f"{name}.part")
            make(part)
            part.rename(folder)
    return folder
