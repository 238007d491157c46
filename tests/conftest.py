"""What several kinds of tests share: one tiny random GPT-2, exported once a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from support.checkpoints import (
    PRECISIONS,
    READY_MADE,
    export_artifact,
    need_torch,
    shared_checkpoint,
)

# The machine may be busy with other things: how long an example takes proves nothing.
settings.register_profile("nextok", deadline=None)
settings.load_profile("nextok")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="the long forms of the tests of reliability; the mix of requests takes what is left",
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that most tests share."""
    if READY_MADE:
        return READY_MADE / "checkpoint"
    return shared_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def artifacts(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoint exported at each precision."""
    if READY_MADE:
        return {precision: READY_MADE / precision for precision in PRECISIONS}
    folder = tmp_path_factory.mktemp("artifacts")
    return {
        precision: export_artifact(checkpoint, folder / precision, precision)
        for precision in PRECISIONS
    }


@pytest.fixture(scope="session")
def torch_logprobs(checkpoint: Path) -> Callable[[Sequence[int]], np.ndarray]:
    """The reference: token ids to float64 log probabilities (tokens, vocabulary), by torch."""
    need_torch()
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(checkpoint).double().eval()

    def logprobs(ids: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            logits = model(torch.tensor([list(ids)])).logits[0]
            return torch.log_softmax(logits, -1).numpy()

    return logprobs
