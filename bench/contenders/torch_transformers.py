"""transformers on torch: `generate` with a static batch and its default attention (sdpa)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from bench.job import Job, Outcome
from bench.worker import SETTINGS

LINK = "checkpoint"


def prepare(checkpoint: Path, folder: Path, settings: SETTINGS) -> None:  # noqa: ARG001
    """The checkpoint is taken as it is."""
    (folder / LINK).symlink_to(checkpoint.resolve())


def weights(folder: Path, settings: SETTINGS) -> Path:  # noqa: ARG001
    """The file whose bytes every step reads."""
    return folder / LINK / "model.safetensors"


class StepClock(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Notes when each step ends, and never stops anything."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._start = time.perf_counter()

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any
    ) -> torch.BoolTensor:
        """Called by `generate` after every step."""
        del scores
        self.times.append(time.perf_counter() - self._start)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)  # type: ignore[return-value]


def run_generate(model: Any, job: Job) -> Outcome:
    """Runs `generate` as transformers and optimum share it; no token ends a text."""
    ids = torch.tensor(job.prompts)
    model.generation_config.eos_token_id = None
    clock = StepClock()
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=job.output_tokens,
            do_sample=False,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
    return Outcome.in_step(clock.times, output[:, ids.shape[1] :].tolist())


class Runner:
    """The model in float32."""

    offers: frozenset[str] = frozenset()

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        del settings
        torch.set_num_threads(threads)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder / LINK, dtype=torch.float32
        ).eval()

    def run(self, job: Job) -> Outcome:
        """All prompts as one batch."""
        return run_generate(self._model, job)

    def close(self) -> None:
        """Nothing to end."""
