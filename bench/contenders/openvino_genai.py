"""OpenVINO GenAI: optimum-intel's export, nncf's weights, the continuous batching pipeline.

For one stream as for many. With a CPU that has bfloat16, OpenVINO computes activations in it
unless told otherwise, and keeps the KV cache in 8 bits; `defaults` asks what it would do.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import openvino
from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig

from bench.job import DRAFTS, REUSE, Job, Outcome
from bench.worker import SETTINGS

CACHE_GIB = 2
PROMPT_LOOKUP = {"num_assistant_tokens": 5, "max_ngram_size": 3}  # as in OpenVINO's samples


def prepare(checkpoint: Path, folder: Path, settings: SETTINGS) -> None:
    """Exports the checkpoint and compresses its weights."""
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
    options = ["--task", "text-generation-with-past", "--weight-format", *settings["weights"]]
    subprocess.run([*command, "--model", str(checkpoint), *options, str(folder)], check=True)


def weights(folder: Path, settings: SETTINGS) -> Path:  # noqa: ARG001
    """The file whose bytes every step reads."""
    return folder / "openvino_model.bin"


def defaults() -> dict[str, str]:
    """What OpenVINO takes on this processor where nothing is set."""
    core = openvino.Core()
    names = ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION")
    return {name: core.get_property("CPU", name).to_string() for name in names}


class Runner:
    """Pipelines over one model: plain, with prompt lookup, with prefix caching."""

    offers = frozenset({DRAFTS, REUSE})

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        self._folder = folder
        self._properties = dict(settings["properties"]) | {"INFERENCE_NUM_THREADS": threads}
        self._pipelines: dict[tuple[bool, bool], ContinuousBatchingPipeline] = {}
        self._pipeline(drafts=False, reuse=False)

    def _pipeline(self, *, drafts: bool, reuse: bool) -> ContinuousBatchingPipeline:
        """Drafts and prefix caching are settings of a pipeline, not of a request."""
        if (drafts, reuse) not in self._pipelines:
            scheduler = SchedulerConfig()
            scheduler.cache_size = CACHE_GIB
            scheduler.enable_prefix_caching = reuse
            self._pipelines[drafts, reuse] = ContinuousBatchingPipeline(
                str(self._folder),
                scheduler,
                "CPU",
                self._properties | ({"prompt_lookup": True} if drafts else {}),
            )
        return self._pipelines[drafts, reuse]

    def run(self, job: Job) -> Outcome:
        """All prompts as requests of their own, stepped by hand."""
        pipeline = self._pipeline(drafts=job.drafts, reuse=job.reuse)
        config = GenerationConfig()
        config.max_new_tokens, config.ignore_eos = job.output_tokens, True
        if job.drafts:
            config.num_assistant_tokens = PROMPT_LOOKUP["num_assistant_tokens"]
            config.max_ngram_size = PROMPT_LOOKUP["max_ngram_size"]
        prompts = [openvino.Tensor([prompt]) for prompt in job.prompts]
        arrivals: list[list[float]] = [[] for _ in prompts]
        tokens: list[list[int]] = [[] for _ in prompts]
        start = time.perf_counter()
        handles = [pipeline.add_request(i, prompt, config) for i, prompt in enumerate(prompts)]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            now = time.perf_counter() - start
            for stream, handle in enumerate(handles):
                if handle.can_read():
                    for output in handle.read().values():
                        tokens[stream] += output.generated_ids
                        arrivals[stream] += [now] * len(output.generated_ids)
        return Outcome(arrivals, tokens)

    def close(self) -> None:
        """Frees the models."""
        self._pipelines.clear()
