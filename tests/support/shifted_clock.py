"""A wall clock that jumps, for processes other than the test's own."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("shifted_clock.c")


class ShiftedClock:
    """The wall clock of processes that are started with its environment.

    Args:
        folder: Where what they share is kept.

    Attributes:
        environment: Of such a process.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("shifting a clock takes Linux and a C compiler")
        library = folder / "shifted_clock.so"
        command = (compiler, "-O1", "-Wall", "-shared", "-fPIC", str(_SOURCE), "-o", str(library))
        subprocess.run((*command, "-ldl"), check=True)
        self._file = folder / "shift"
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """Has the clock be so far ahead of the real one from now on, in running processes too."""
        # In place: they have mapped this file.
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))
