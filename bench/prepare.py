"""Everything that has to be there before anything can be measured: checkpoint, models, workers.

Knows: folders and what contenders ask for. Does not know: what is measured.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench import worker
from bench.contenders import Contender
from bench.progress import Progress
from bench.worker import Failed, Worker


@dataclass
class Field:
    """Who is there, and who is not.

    Attributes:
        workers: By the contenders' names.
        failures: Why contenders are missing, by their names.
        weights: Bytes of the weights, by the contenders' names.
    """

    workers: dict[str, Worker] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Ends all workers."""
        for each in self.workers.values():
            each.close()


def checkpoint(folder: Path) -> Path:
    """A seeded random GPT-2 124M, made if it is not there."""
    path = folder / "checkpoint"
    if not (path / "config.json").exists():
        script = Path(__file__).parent / "random_gpt2.py"
        subprocess.run([sys.executable, script, path], check=True, stdout=subprocess.DEVNULL)
    return path


def models(
    contenders: Iterable[Contender],
    source: Path,
    folder: Path,
    failures: dict[str, str],
    progress: Progress,
) -> Field:
    """Makes the contenders' files, one after the other.

    Args:
        contenders: Those that take part.
        source: The checkpoint.
        folder: Where to write.
        failures: Those that are known to be missing, and why.
        progress: Where to tell how it goes.
    """
    found = Field(failures=dict(failures))
    made: dict[tuple[str, str], int] = {}
    for contender in contenders:
        if contender.name in found.failures:
            progress.say(f"{contender.label}: {found.failures[contender.name]}")
            continue
        key = (contender.folder, repr(contender.settings))
        files, log = folder / contender.folder, folder / "logs" / f"{contender.name}.log"
        try:
            if key not in made:
                made[key] = worker.prepare(contender.module, source, files, contender.settings, log)
        except Failed as error:
            found.failures[contender.name] = f"export: {error}"
            progress.say(f"{contender.label}: export failed: {error}")
        else:
            found.weights[contender.name] = made[key]
            progress.say(f"{contender.label}: model of {made[key] / 1e6:.0f} MB")
    return found


def start(
    contenders: Iterable[Contender], folder: Path, threads: int, here: Field, progress: Progress
) -> None:
    """Starts a worker for each contender that has its files."""
    for contender in contenders:
        if contender.name in here.failures:
            continue
        log = folder / "logs" / f"{contender.name}.log"
        files = folder / contender.folder
        try:
            here.workers[contender.name] = Worker(
                contender.module, files, contender.settings, threads, log
            )
        except Failed as error:
            here.failures[contender.name] = f"start: {error}"
            progress.say(f"{contender.label}: start failed: {error}")
    progress.say(f"{len(here.workers)} contenders loaded")
