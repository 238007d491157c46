"""optimum's ORTModelForCausalLM over optimum's own export, a static batch."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForCausalLM

from bench.contenders.torch_transformers import run_generate
from bench.job import Job, Outcome
from bench.worker import SETTINGS


def prepare(checkpoint: Path, folder: Path, settings: SETTINGS) -> None:
    """Exports the graph with past keys and values."""
    del settings
    main_export(
        str(checkpoint), output=folder, task="text-generation-with-past", do_validation=False
    )


def weights(folder: Path, settings: SETTINGS) -> Path:  # noqa: ARG001
    """The file whose bytes every step reads."""
    return folder / "model.onnx"


class Runner:
    """The graph in float32."""

    offers: frozenset[str] = frozenset()

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        del settings
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._model = ORTModelForCausalLM.from_pretrained(folder, session_options=options)

    def run(self, job: Job) -> Outcome:
        """All prompts as one batch."""
        return run_generate(self._model, job)

    def close(self) -> None:
        """Nothing to end."""
