"""CTranslate2: its own converter, its own quantization, a static batch."""

from __future__ import annotations

import json
import time
from pathlib import Path

import ctranslate2
from ctranslate2.converters import TransformersConverter

from bench.job import Job, Outcome
from bench.worker import SETTINGS


def prepare(checkpoint: Path, folder: Path, settings: SETTINGS) -> None:
    """Converts the checkpoint."""
    converter = TransformersConverter(str(checkpoint), copy_files=["vocab.json"])
    converter.convert(str(folder), quantization=settings["type"], force=True)


def weights(folder: Path, settings: SETTINGS) -> Path:  # noqa: ARG001
    """The file whose bytes every step reads."""
    return folder / "model.bin"


class Runner:
    """A generator with one batch at a time."""

    offers: frozenset[str] = frozenset()

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        self._generator = ctranslate2.Generator(
            str(folder),
            device="cpu",
            compute_type=settings["type"],
            inter_threads=1,
            intra_threads=threads,
        )
        ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self._tokens = {number: token for token, number in ids.items()}

    def run(self, job: Job) -> Outcome:
        """All prompts as one batch; the least length keeps it from ending early."""
        prompts = [[self._tokens[number] for number in prompt] for prompt in job.prompts]
        arrivals: list[list[float]] = [[] for _ in prompts]
        start = time.perf_counter()

        def note(step: ctranslate2.GenerationStepResult) -> bool:
            arrivals[step.batch_id].append(time.perf_counter() - start)
            return False

        results = self._generator.generate_batch(
            prompts,
            min_length=job.output_tokens,
            max_length=job.output_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=note,
        )
        return Outcome(arrivals, [list(result.sequences_ids[0]) for result in results])

    def close(self) -> None:
        """Frees the model."""
        self._generator.unload_model()
