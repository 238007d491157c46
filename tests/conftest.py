"""What several kinds of tests share: one tiny random GPT-2, exported once a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from support.checkpoints import (
    PRECISIONS,
    READY_MADE,
    need_torch,
    shared_checkpoint,
)
from support.exports import Exports
from support.figures import Figures
from support.once import once

_FIGURES = pytest.StashKey[Figures]()

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: begun last, they would leave one of two workers without work."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that most tests share."""
    if READY_MADE:
        return READY_MADE / "checkpoint"
    return once(tmp_path_factory, "checkpoint", shared_checkpoint)


@pytest.fixture(scope="session")
def artifacts(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The checkpoint exported at each precision, when it is first asked for."""
    if READY_MADE:
        return {precision: READY_MADE / precision for precision in PRECISIONS}
    return Exports(tmp_path_factory, checkpoint)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """What the tests of reliability measure; `figures.minutes` is 0 in their short forms."""
    return pytestconfig.stash.setdefault(_FIGURES, Figures(pytestconfig.getoption("--soak")))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands a worker's figures to the process that tells of the run."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and (found := session.config.stash.get(_FIGURES, None)):
        output["figures"] = found.entries()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the figures of a worker."""
    for entry in getattr(node, "workeroutput", {}).get("figures", ()):
        soak = node.config.getoption("--soak")
        node.config.stash.setdefault(_FIGURES, Figures(soak)).add(**entry)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the figures, and writes them down."""
    if (found := config.stash.get(_FIGURES, None)) is None:
        return
    terminalreporter.section("reliability, test by test")
    for line in found.lines():
        terminalreporter.write_line(line)
    found.write()


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
