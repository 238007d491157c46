"""What the tests of reliability measured: a line each, and a file with all of them."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "build" / "reliability.json"


class Figures:
    """Collects the figures of a run.

    Args:
        minutes: Of the long form; 0 for the short one.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self._began = time.monotonic()
        self._found: dict[tuple[int, str], dict[str, Any]] = {}

    def add(self, test: int, text: str, **values: float | str) -> None:
        """Takes a figure in.

        Args:
            test: Its number, from 1 to 15.
            text: The figure and its bound, for people.
            values: The same for programs.
        """
        self._found[test, text] = {"test": test, "text": text, **values}

    @property
    def passed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def entries(self) -> list[dict[str, Any]]:
        """What `add` was called with, in the order of the tests."""
        return [self._found[key] for key in sorted(self._found)]

    def lines(self) -> list[str]:
        """The figures in the order of the tests."""
        return [f"{number:2} {text}" for number, text in sorted(self._found)]

    def write(self) -> None:
        """Writes all of them to build/reliability.json."""
        RESULTS.parent.mkdir(exist_ok=True)
        machine = f"{platform.machine()}, {os.cpu_count()} processors, Python "
        content = {
            "form": f"long, {self.minutes:g} minutes" if self.minutes else "short",
            "machine": machine + platform.python_version(),
            "figures": self.entries(),
        }
        RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
