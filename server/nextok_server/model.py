"""The ONNX Runtime session and its bindings: the only place that imports onnxruntime.

Knows: the graph's inputs and outputs (docs/artifact.md), buffers, pointers. Does not know:
sequences, who is next, sampling.

All memory that a step needs is allocated once. Inputs and outputs are bound by address, past
and present to the same buffer, so the cache is written in place; a binding is kept for each
shape that occurs and used again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from nextok_server.artifact import Artifact
from nextok_server.cache_memory import CacheMemory
from nextok_server.errors import ArtifactError
from nextok_server.processor import sums_bytes_exactly

_BINDINGS_KEPT = 256
_OPTIONAL_OUTPUTS = ("logit_max", "temperature_mass")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one cache row to compute.

    Attributes:
        slot: Row of the cache.
        start: Place of the first token in its text.
        tokens: Valid tokens, none for an idle row.
        wanted: Columns whose distribution is wanted.
    """

    slot: int
    start: int
    tokens: list[int]
    wanted: range = range(0)


@dataclass(frozen=True, slots=True)
class Distributions:
    """Views of the output buffers, one row a wanted position; valid until the next step.

    Attributes:
        logprobs: float32 (R, V).
        top_logprobs: float32 (R, K), descending.
        top_ids: int64 (R, K).
        entropy: float32 (R,), nats.
        logit_max: float32 (R,); computed only where it was asked for.
        temperature_mass: float32 (R,); likewise.
    """

    logprobs: np.ndarray
    top_logprobs: np.ndarray
    top_ids: np.ndarray
    entropy: np.ndarray
    logit_max: np.ndarray
    temperature_mass: np.ndarray


class Model:
    """One loaded graph with its cache memory and buffers. Not thread-safe.

    Args:
        artifact: A checked artifact.
        slots: Sequences that the cache holds.
        chunk: Longest chunk of a prompt, even.
        threads: Threads that compute one step.
        spinning: Whether they wait for work by spinning.

    Attributes:
        cache: The memory that past and present are bound to.
    """

    def __init__(
        self, artifact: Artifact, *, slots: int, chunk: int, threads: int, spinning: bool
    ) -> None:
        self._row_multiple = artifact.row_multiple
        self.slots = self._padded(slots)
        self.chunk = chunk
        self.capacity = artifact.context_length + chunk
        self._artifact = artifact
        self._session = self._open(artifact, threads, spinning)
        # Without this, what no bound output depends on is computed all the same.
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        rows = max(self.slots, chunk)
        k, vocabulary = artifact.top_k, artifact.vocabulary_size
        self.cache = CacheMemory(
            layers=artifact.layers,
            slots=self.slots,
            heads=artifact.heads,
            capacity=self.capacity,
            head_dim=artifact.head_dim,
            dtype=np.dtype(artifact.cache),
        )
        self._inputs: dict[str, np.ndarray[Any, Any]] = {
            "input_ids": np.zeros(rows * 2, np.int64),
            "position_ids": np.zeros(rows * 2, np.int64),
            "query_seqlens": np.zeros(self.slots, np.int32),
            "seqlens_k": np.zeros(self.slots, np.int32),
            "total_sequence_length": np.zeros(1, np.int32),
            "logits_index": np.zeros(rows, np.int64),
            "inverse_temperature": np.ones(rows, np.float32),
        }
        self._outputs: dict[str, np.ndarray[Any, Any]] = {
            "logprobs": np.zeros((rows, vocabulary), np.float32),
            "top_logprobs": np.zeros((rows, k), np.float32),
            "top_ids": np.zeros((rows, k), np.int64),
            "entropy": np.zeros(rows, np.float32),
            "logit_max": np.zeros(rows, np.float32),
            "temperature_mass": np.zeros(rows, np.float32),
        }
        self._bindings: OrderedDict[tuple[int, ...], ort.IOBinding] = OrderedDict()

    @staticmethod
    def _open(artifact: Artifact, threads: int, spinning: bool) -> ort.InferenceSession:
        needed = tuple(int(part) for part in artifact.minimum_onnxruntime.split(".")[:2])
        if tuple(int(part) for part in ort.__version__.split(".")[:2]) < needed:
            raise ArtifactError(
                f"{artifact.folder} needs ONNX Runtime {artifact.minimum_onnxruntime} or newer, "
                f"this is {ort.__version__}"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.log_severity_level = 3
        # Takes slower products of bytes where the fast ones could overflow.
        precise = str(int(not sums_bytes_exactly()))
        options.add_session_config_entry("session.x64quantprecision", precise)
        try:
            return ort.InferenceSession(
                artifact.model_path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ArtifactError(
                f"{artifact.model_path} cannot be loaded: {type(error).__name__}: {error}"
            ) from error

    @property
    def runtime_version(self) -> str:
        """ONNX Runtime's version."""
        return str(ort.__version__)

    def decode(
        self,
        chunks: list[Chunk],
        inverse_temperature: list[float],
        *,
        logit_max: bool,
        temperature_mass: bool,
    ) -> Distributions:
        """Computes one token for each of `chunks`, which are ordered by slot.

        Rows are bound from slot 0 to the last one that is busy; those between that have no
        chunk stay idle.
        """
        rows = self._padded(chunks[-1].slot + 1)
        inputs = self._inputs
        inputs["query_seqlens"][:rows] = 0
        inputs["seqlens_k"][:rows] = 0
        inputs["input_ids"][:rows] = 0
        inputs["position_ids"][:rows] = 0
        for index, chunk in enumerate(chunks):
            slot = chunk.slot
            inputs["input_ids"][slot] = chunk.tokens[0]
            inputs["position_ids"][slot] = chunk.start
            inputs["query_seqlens"][slot] = 1
            inputs["seqlens_k"][slot] = chunk.start
            inputs["logits_index"][index] = slot
        inputs["total_sequence_length"][0] = max(chunk.start for chunk in chunks) + 1
        wanted = len(chunks)
        computed = self._padded(wanted)
        inputs["logits_index"][wanted:computed] = chunks[0].slot
        inputs["inverse_temperature"][:wanted] = inverse_temperature
        outputs = 1 | logit_max << 1 | temperature_mass << 2
        self._run(0, rows, 1, computed, outputs)
        return self._views(wanted)

    def prefill(
        self,
        chunks: list[Chunk],
        inverse_temperature: list[float],
        *,
        logit_max: bool,
        temperature_mass: bool,
    ) -> Distributions:
        """Computes a chunk of at least two tokens of each of some prompts, ordered by slot.

        Rows are bound from the first slot to the last, all as long as the longest chunk; those
        between that have no chunk stay idle. The distributions are those of the columns in each
        `chunk.wanted`, one chunk after the other; each chunk has its own inverse temperature.
        """
        first, rows = chunks[0].slot, chunks[-1].slot - chunks[0].slot + 1
        padded = self._padded(max(len(chunk.tokens) for chunk in chunks))
        inputs, size = self._inputs, rows * padded
        ids = inputs["input_ids"][:size].reshape(rows, padded)
        positions = inputs["position_ids"][:size].reshape(rows, padded)
        for array in (ids, positions, inputs["query_seqlens"][:rows], inputs["seqlens_k"][:rows]):
            array[...] = 0
        wanted = 0
        for chunk, inverse in zip(chunks, inverse_temperature, strict=True):
            row, length = chunk.slot - first, len(chunk.tokens)
            end = chunk.start + length
            ids[row, :length] = chunk.tokens
            positions[row, :length] = np.arange(chunk.start, end)
            inputs["query_seqlens"][row] = length
            inputs["seqlens_k"][row] = end - 1
            columns = slice(wanted, wanted + len(chunk.wanted))
            inputs["logits_index"][columns] = np.asarray(chunk.wanted, np.int64) + row * padded
            inputs["inverse_temperature"][columns] = inverse
            wanted = columns.stop
        longest = max(chunk.start + len(chunk.tokens) for chunk in chunks)
        inputs["total_sequence_length"][0] = max(longest, padded)
        results = self._padded(max(wanted, 1))
        inputs["logits_index"][wanted:results] = 0
        outputs = 1 | logit_max << 1 | temperature_mass << 2 if wanted else 0
        self._run(first, rows, padded, results, outputs)
        return self._views(wanted)

    def _padded(self, rows: int) -> int:
        """Rows that a product gets for these: see docs/artifact.md, row_multiple."""
        return -(-rows // self._row_multiple) * self._row_multiple

    def _views(self, rows: int) -> Distributions:
        return Distributions(**{name: array[:rows] for name, array in self._outputs.items()})

    def _run(self, first: int, rows: int, length: int, wanted: int, outputs: int) -> None:
        key = (first, rows, length, wanted, outputs)
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bind(first, rows, length, wanted, outputs)
            self._bindings[key] = binding
            if len(self._bindings) > _BINDINGS_KEPT:
                self._bindings.popitem(last=False)
        else:
            self._bindings.move_to_end(key)
        self._session.run_with_iobinding(binding, self._run_options)

    def _bind(self, first: int, rows: int, length: int, wanted: int, outputs: int) -> ort.IOBinding:
        """Binds every buffer by address, for one combination of shapes."""
        binding = self._session.io_binding()
        shapes: dict[str, tuple[int, ...]] = {
            "input_ids": (rows, length),
            "position_ids": (rows, length),
            "query_seqlens": (rows,),
            "seqlens_k": (rows,),
            "total_sequence_length": (),
            "logits_index": (wanted,),
            "inverse_temperature": (wanted, 1),
        }
        for name, shape in shapes.items():
            array = self._inputs[name]
            binding.bind_input(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
        for name, array in self.cache.arrays.items():
            view = array[first : first + rows]
            address = view.ctypes.data
            past = f"past_key_values.{name}"
            place = ("cpu", 0, array.dtype.type, view.shape, address)
            binding.bind_input(past, *place)
            binding.bind_output(f"present.{name}", *place)
        if outputs:
            left_out = {n for bit, n in enumerate(_OPTIONAL_OUTPUTS, 1) if not outputs >> bit & 1}
            for name, array in self._outputs.items():
                if name not in left_out:
                    shape = (wanted, *array.shape[1:])
                    binding.bind_output(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
        return binding
