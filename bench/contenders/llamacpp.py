"""llama.cpp through llama-cpp-python's low-level calls: parallel sequences in one context.

The GGUF is written with the `gguf` package and quantized by llama.cpp's own call. A context is made
for every job, before its clock starts; each sequence has its own part of the KV cache, which is
faster than one shared by all (`kv_unified`) where there are several. Prompts are computed first,
as many in one call as fit into a batch, then all sequences decode together.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from bench.contenders import llamacpp_gguf
from bench.job import REUSE, Job, Outcome
from bench.worker import SETTINGS

BATCH = 2048

prepare, weights = llamacpp_gguf.prepare, llamacpp_gguf.weights


class Runner:
    """A model, and the context of the last job that shared a prefix."""

    offers = frozenset({REUSE})

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        llama_cpp.llama_backend_init()
        path, params = weights(folder, settings), llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if self._model is None:
            raise RuntimeError(f"llama.cpp cannot load {path.name}")
        self._kv, self._threads = settings["kv"], threads
        self._kept: tuple[tuple[int, ...], Context] | None = None

    def run(self, job: Job) -> Outcome:
        """Runs the job in a context of its own, or in the one that has its prefix."""
        if job.reuse:
            return self._run_shared(job)
        context = self._context(len(job.prompts), job)
        try:
            start = time.perf_counter()
            return context.generate(job, start)
        finally:
            context.close()

    def _context(self, sequences: int, job: Job) -> Context:
        tokens = job.prompt_tokens + job.output_tokens
        return Context(self._model, sequences, tokens, self._kv, self._threads)

    def _run_shared(self, job: Job) -> Outcome:
        """The prefix is computed once, in a sequence of its own, and copied to the others."""
        streams = len(job.prompts)
        prefix = tuple(job.prompts[0][: job.shared])
        is_kept = self._kept is not None and self._kept[0] == prefix
        if not is_kept:
            self.close_kept()
            self._kept = prefix, self._context(streams + 1, job)
        assert self._kept is not None
        context = self._kept[1]
        start = time.perf_counter()
        if not is_kept:
            context.prefill([list(prefix)], [streams], 0)
        for stream in range(streams):
            context.copy(streams, stream)
        return context.generate(job, start, skip=job.shared)

    def close_kept(self) -> None:
        """Frees the context that was kept."""
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    def close(self) -> None:
        """Frees the model."""
        self.close_kept()
        llama_cpp.llama_model_free(self._model)


class Context:
    """A context and its batch.

    Args:
        model: llama.cpp's model.
        sequences: How many run in it.
        tokens: Most tokens of each.
        kv: F32 or F16.
        threads: Threads that compute.
    """

    def __init__(
        self, model: llama_cpp.llama_model_p, sequences: int, tokens: int, kv: str, threads: int
    ) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_seq_max, params.n_ctx = sequences, sequences * tokens
        params.n_batch, params.n_threads, params.n_threads_batch = BATCH, threads, threads
        params.type_k = params.type_v = getattr(llama_cpp, f"GGML_TYPE_{kv}")
        params.kv_unified, params.no_perf = False, True
        self._context = llama_cpp.llama_init_from_model(model, params)
        if self._context is None:
            raise RuntimeError(f"no context of {sequences} times {tokens} tokens")
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    def generate(self, job: Job, start: float, *, skip: int = 0) -> Outcome:
        """Computes the prompts from a place on, then decodes them together.

        Args:
            job: What to do.
            start: When the clock started.
            skip: Tokens of each prompt that are there already.
        """
        streams = range(len(job.prompts))
        rest = [prompt[skip:] for prompt in job.prompts]
        arrivals: list[list[float]] = []
        chosen: list[int] = []
        fitting = BATCH // len(rest[0])
        for first in range(0, len(rest), fitting):
            part = streams[first : first + fitting]
            chosen += self.prefill([rest[i] for i in part], part, skip)
            now = time.perf_counter() - start
            arrivals += [[now] for _ in part]
        tokens = [[token] for token in chosen]
        for place in range(job.prompt_tokens, job.prompt_tokens + job.output_tokens - 1):
            chosen = self._decode([(token, place, i, True) for i, token in enumerate(chosen)])
            now = time.perf_counter() - start
            for stream, token in enumerate(chosen):
                tokens[stream].append(token)
                arrivals[stream].append(now)
        return Outcome(arrivals, tokens)

    def prefill(
        self, prompts: Sequence[list[int]], sequences: Sequence[int], place: int
    ) -> list[int]:
        """Computes prompts from a place on; returns the likeliest next tokens."""
        rows = [
            (token, place + i, sequence, i == len(prompt) - 1)
            for prompt, sequence in zip(prompts, sequences, strict=True)
            for i, token in enumerate(prompt)
        ]
        return self._decode(rows)

    def copy(self, source: int, target: int) -> None:
        """Makes a sequence the same as another one."""
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_seq_rm(memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(memory, source, target, -1, -1)

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """Computes (token, place, sequence, is_wanted) rows; returns the likeliest next tokens."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, place, sequence, is_wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, place, is_wanted
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
        if code := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode returned {code}")
        wanted = sum(row[3] for row in rows)
        logits = llama_cpp.llama_get_logits(self._context)
        found = np.ctypeslib.as_array(
            ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (wanted, self._vocabulary)
        )
        best: list[int] = found.argmax(axis=1).tolist()
        return best

    def close(self) -> None:
        """Frees the batch and the context."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
