"""Artifacts that tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.checkpoints import PRECISIONS, export_artifact
from support.once import once


class Exports(Mapping[str, Path]):
    """A checkpoint's artifacts by precision, each made when it is first asked for.

    Args:
        factory: Knows where files of this run belong.
        checkpoint: Its folder.
    """

    def __init__(self, factory: pytest.TempPathFactory, checkpoint: Path) -> None:
        self._factory = factory
        self._checkpoint = checkpoint

    def __getitem__(self, precision: str) -> Path:
        if precision not in PRECISIONS:
            raise KeyError(precision)
        return once(
            self._factory,
            f"{self._checkpoint.name}-{precision}",
            lambda out: export_artifact(self._checkpoint, out, precision),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(PRECISIONS)

    def __len__(self) -> int:
        return len(PRECISIONS)
