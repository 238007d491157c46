"""A process for each contender, so that none sees the threads, the memory or the crash of another.

Knows: pipes, logs, time limits. Does not know: what a contender does.

A contender's module has `prepare(checkpoint, folder, settings)`, `weights(folder, settings)` and a
class `Runner(folder, settings, threads)` with `offers`, `run(job)` and `close()`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import processes
from bench.job import Job, Outcome

SETTINGS = Mapping[str, Any]
_spawn = multiprocessing.get_context("spawn")


class Failed(Exception):
    """A contender could not do what it was asked; the message says why."""


class Worker:
    """A contender in a process of its own.

    Args:
        module: Where its code is.
        folder: Where its files are.
        settings: What sets it apart from others of the same module.
        threads: Threads that it computes with.
        log: File that its output goes to.
        seconds: How long an answer may take.
    """

    def __init__(
        self,
        module: str,
        folder: Path,
        settings: SETTINGS,
        threads: int,
        log: Path,
        *,
        seconds: float = 300.0,
    ) -> None:
        self._log, self._seconds = log, seconds
        self._pipe, child = _spawn.Pipe()
        arguments = (child, module, folder, dict(settings), threads, log)
        self._process = _spawn.Process(target=_serve, args=arguments)
        self._process.start()
        child.close()
        try:
            self.offers: frozenset[str] = self._answer()
        except Failed:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process.pid is not None
        return self._process.pid

    def run(self, job: Job) -> Outcome:
        """Does a job and waits until the processors are free again.

        Raises:
            Failed: It raised an error, died, or did not answer in time.
        """
        if missing := job.needs - self.offers:
            raise Failed(f"does not offer {', '.join(sorted(missing))}")
        try:
            self._pipe.send(job)
        except OSError as error:
            raise Failed(f"is gone: {_last_line(self._log)}") from error
        outcome: Outcome = self._answer()
        try:
            outcome.check(job)
        except ValueError as error:
            raise Failed(str(error)) from error
        processes.settle(self.pid)
        return outcome

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            processes.kill(self.pid)
            self._process.join()

    def _answer(self) -> Any:
        if not self._pipe.poll(self._seconds):
            processes.kill(self.pid)
            raise Failed(f"no answer within {self._seconds:.0f} s")
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            code, last = self._process.exitcode, _last_line(self._log)
            raise Failed(f"died with exit code {code}: {last}") from None
        if kind == "failed":
            raise Failed(value)
        return value


def prepare(module: str, checkpoint: Path, folder: Path, settings: SETTINGS, log: Path) -> int:
    """Makes a contender's files, if they are not there, in a process of its own.

    Returns:
        Bytes of the weights.

    Raises:
        Failed: It raised an error, or died.
    """
    pipe, child = _spawn.Pipe()
    process = _spawn.Process(
        target=_prepare, args=(child, module, checkpoint, folder, dict(settings), log)
    )
    process.start()
    child.close()
    try:
        kind, value = pipe.recv()
    except EOFError:
        kind, value = "failed", f"died: {_last_line(log)}"
    process.join()
    if kind == "failed":
        raise Failed(value)
    return int(value)


def _prepare(
    pipe: Connection, module: str, checkpoint: Path, folder: Path, settings: SETTINGS, log: Path
) -> None:
    _redirect(log)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contender = importlib.import_module(module)
        weights: Path = contender.weights(folder, settings)
        if not weights.exists():
            contender.prepare(checkpoint, folder, settings)
        pipe.send(("done", weights.stat().st_size))
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
        pipe.send(("failed", describe(error)))


def _serve(
    pipe: Connection, module: str, folder: Path, settings: SETTINGS, threads: int, log: Path
) -> None:
    # Before anything is imported that starts threads of OpenMP.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _redirect(log)
    try:
        runner = importlib.import_module(module).Runner(folder, settings, threads)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
        pipe.send(("failed", describe(error)))
        return
    try:
        pipe.send(("ready", frozenset(runner.offers)))
        while True:
            job = pipe.recv()
            try:
                pipe.send(("done", runner.run(job)))
            except Exception as error:  # noqa: BLE001 - as above
                pipe.send(("failed", describe(error)))
    except EOFError:
        pass  # the parent closed the pipe: nothing more to do
    finally:
        runner.close()


def describe(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")[:300]


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "nothing in its log"
