"""nextok-server as its users start it: a process of its own, on a free port."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(artifacts: dict[str, Path]) -> Iterator[Start]:
    """Starts a server with some flags; returns the process and its address."""
    processes = []

    def run(*flags: str, artifact: Path = artifacts["fp32"]) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nextok_server", str(artifact)),
                *("--listen", "127.0.0.1:0"),
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("nextok: listening on 127.0.0.1:"), process.stderr.read()
        return process, line.split()[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()
