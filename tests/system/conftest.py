"""nextok-server as its users start it: a process of its own, on a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.checkpoints import make_checkpoint
from support.exports import Exports
from support.once import once

FAULTY_SERVER = str(Path(__file__).parents[1] / "support" / "faulty_server.py")
Start = Callable[..., tuple["subprocess.Popen[str]", str]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the long form the mix comes last, and takes the time that is left."""
    if config.getoption("--soak"):
        items.sort(key=lambda item: item.path.name == "test_soak.py")


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one layer and 1024 tokens, many of them single bytes."""
    return once(
        tmp_path_factory,
        "small",
        lambda folder: make_checkpoint(folder, layers=1, width=256, vocabulary=1024),
    )


@pytest.fixture(scope="session")
def small(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """It at each precision."""
    return Exports(tmp_path_factory, small_checkpoint)


@pytest.fixture(scope="module")
def target(artifacts: Mapping[str, Path]) -> Iterator[str]:
    """Address of a server of a module's own, with all its defaults; it has to end well."""
    command = [sys.executable, "-m", "nextok_server", str(artifacts["fp32"]), "--no-spinning"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
        server.terminate()
        assert server.wait(60) == 0


@pytest.fixture
def start(artifacts: Mapping[str, Path]) -> Iterator[Start]:
    """Starts a server with some flags; returns the process and its address."""
    processes = []

    def run(
        *flags: str,
        artifact: Path = artifacts["fp32"],
        fault: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[subprocess.Popen[str], str]:
        program = ["-m", "nextok_server"] if fault is None else [FAULTY_SERVER, fault]
        process = subprocess.Popen(
            [
                *(sys.executable, *program, str(artifact)),
                *("--listen", "127.0.0.1:0", "--no-spinning"),
                # Nobody reads the log of a server with thousands of requests.
                *("--log-level", "warning"),
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("nextok: listening on 127.0.0.1:"), process.stderr.read()
        return process, line.split()[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()
