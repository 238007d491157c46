"""Runs a serving graph, step by step, for the certificate.

Knows the graph's inputs and outputs as docs/artifact.md lists them, and ONNX Runtime. Written
apart from the server on purpose: the export stands alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nextok_kernels
import numpy as np
import numpy.typing as npt
import onnxruntime

from nextok_export.architecture import Architecture
from nextok_export.quantize import FloatArray

Ids = npt.NDArray[np.int64]
Feeds = dict[str, npt.NDArray[Any]]


def open_session(path: Path, *, kernels: bool = False) -> onnxruntime.InferenceSession:
    """Loads a graph for the CPU.

    Its threads do not spin while they wait: torch wants the cores between two steps.

    Args:
        path: the graph.
        kernels: whether it needs nextok's own operators.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Some processors' fast products of bytes overflow: this takes slower ones with the same sums.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if kernels:
        options.register_custom_ops_library(str(nextok_kernels.library_path()))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class ServingGraph:
    """A loaded serving graph and a cache of a few rows, each of which holds one text."""

    def __init__(
        self, path: Path, architecture: Architecture, *, rows: int, chunk: int, kernels: bool
    ) -> None:
        """Loads the graph.

        Args:
            path: model.onnx.
            architecture: sizes of the model.
            kernels: whether the graph is made of nextok's own operators.
            rows: texts that can be held at once, an even number.
            chunk: most tokens of one row in one step.
        """
        self._session = open_session(path, kernels=kernels)
        self._feeds = self._flat_feeds if kernels else self._padded_feeds
        self._last_place = architecture.context_length - 1
        # The longest chunk fits behind a full context; a multiple of 16, as the kernels ask.
        self._capacity = (architecture.context_length + chunk + 15) // 16 * 16
        shape = (rows, architecture.heads, self._capacity, architecture.head_dim)
        self._cache = {
            entry.name: np.zeros(shape, np.int8 if "int8" in entry.type else np.float32)
            for entry in self._session.get_inputs()
            if entry.name.startswith("past_key_values.")
        }
        self.rows = rows
        self.held = np.zeros(rows, np.int64)

    def reset(self) -> None:
        """Forgets every row's text."""
        self.held[:] = 0

    def step(self, chunks: Sequence[Ids], wanted: Sequence[tuple[int, int]]) -> FloatArray:
        """Appends a chunk to each row's text.

        Args:
            chunks: for each row from 0, its tokens; none for a row that idles.
            wanted: positions whose distribution is wanted, as (row, column of its chunk).

        Returns:
            Log probabilities [len(wanted), V], natural.
        """
        feeds, rows = self._feeds(chunks, wanted)
        return self._run(feeds, rows)[: len(wanted)]

    def _flat_feeds(
        self, chunks: Sequence[Ids], wanted: Sequence[tuple[int, int]]
    ) -> tuple[Feeds, int]:
        """All tokens one after the other, each with its row and its place."""
        lengths = np.array([len(chunk) for chunk in chunks])
        starts = np.cumsum(lengths) - lengths
        rows = np.repeat(np.arange(len(chunks)), lengths)
        places = self.held[rows] + np.arange(len(rows)) - starts[rows]
        self.held[: len(chunks)] += lengths
        index = [int(starts[row]) + column for row, column in wanted] or [0]
        return {
            "input_ids": np.concatenate([np.asarray(chunk, np.int64) for chunk in chunks]),
            "position_ids": places,
            "slots": rows.astype(np.int32),
            "logits_index": np.array(index, np.int64),
            "inverse_temperature": np.ones((len(index), 1), np.float32),
        }, self.rows

    def _padded_feeds(
        self, chunks: Sequence[Ids], wanted: Sequence[tuple[int, int]]
    ) -> tuple[Feeds, int]:
        """A row for each chunk, all as long as the longest."""
        columns = max(len(chunk) for chunk in chunks)
        # An even number of tokens reaches each product: see docs/artifact.md.
        rows = len(chunks) + len(chunks) * columns % 2
        valid = np.zeros(rows, np.int32)
        valid[: len(chunks)] = [len(chunk) for chunk in chunks]
        ids = np.zeros((rows, columns), np.int64)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk)] = chunk
        places = self.held[:rows, None] + np.arange(columns)
        self.held[:rows] += valid
        index = [row * columns + column for row, column in wanted] or [0]
        index += index[-1:] * (len(index) % 2)
        return {
            "input_ids": ids,
            "position_ids": np.minimum(places, self._last_place),
            "query_seqlens": valid,
            "seqlens_k": np.maximum(self.held[:rows] - 1, 0).astype(np.int32),
            "total_sequence_length": np.array(self._capacity, np.int32),
            "logits_index": np.array(index, np.int64),
            "inverse_temperature": np.ones((len(index), 1), np.float32),
        }, rows

    def _run(self, feeds: Feeds, rows: int) -> FloatArray:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, cache in self._cache.items():
            view = cache[:rows]
            place = ("cpu", 0, cache.dtype.type, view.shape, view.ctypes.data)
            binding.bind_input(name, *place)
            binding.bind_output(name.replace("past_key_values", "present"), *place)
        binding.bind_output("logprobs", "cpu")
        self._session.run_with_iobinding(binding)
        logprobs: FloatArray = binding.get_outputs()[-1].numpy()
        return logprobs
