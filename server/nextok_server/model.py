"""The ONNX Runtime session and its bindings: the only place that imports onnxruntime.

Knows: the graph's outputs (docs/artifact.md), buffers, pointers. Does not know: sequences, who is
next, sampling, how the inputs are laid out.

All memory that a step needs is allocated once. Inputs and outputs are bound by address, past
and present to the same buffer, so the cache is written in place; a binding is kept for each
shape that occurs and used again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nextok_kernels
import numpy as np
import onnxruntime as ort
from nextok_kernels.course import BatchChooser
from nextok_kernels.sampling import pack_outputs

from nextok_server import giving_way, interpreter
from nextok_server.artifact import Artifact
from nextok_server.cache_memory import CacheMemory
from nextok_server.errors import ArtifactError
from nextok_server.layouts import Chunk, FlatLayout, Layout, PaddedLayout, Shape
from nextok_server.processor import sums_bytes_exactly

__all__ = ["Chunk", "Distributions", "Model", "Tokens"]

_BINDINGS_KEPT = 256
_OPTIONAL_OUTPUTS = ("logit_max", "temperature_mass")


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
        packed: What compiled code finds them by; see `nextok_kernels.sampling.pack_outputs`.
    """

    logprobs: np.ndarray
    top_logprobs: np.ndarray
    top_ids: np.ndarray
    entropy: np.ndarray
    logit_max: np.ndarray
    temperature_mass: np.ndarray
    packed: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Packs the addresses."""
        arrays = (self.top_logprobs, self.top_ids, self.entropy, self.temperature_mass)
        assert all(array.flags.c_contiguous for array in arrays)
        k, vocabulary = self.top_ids.shape[1], self.logprobs.shape[1]
        addresses = [array.ctypes.data for array in arrays]
        packed = pack_outputs(*addresses, k=k, vocabulary=vocabulary)
        object.__setattr__(self, "packed", packed)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The inputs of a step that gives each sequence a token, and what it tells.

    Attributes:
        ids: int64 (R,).
        positions: int64 (R,).
        outputs: R rows.
    """

    ids: np.ndarray
    positions: np.ndarray
    outputs: Distributions


class Model:
    """One loaded graph with its cache memory and buffers. Not thread-safe.

    Args:
        artifact: A checked artifact.
        slots: Sequences that the cache holds.
        chunk: Longest chunk of a prompt, even.
        tokens: Most that one call computes, padding to even lengths aside.
        threads: Threads that compute one step.
        spinning: Whether they wait for work by spinning.
        gives_way: Whether they let all other threads go first.
        shelf_bytes: Memory for tokens that have no slot.
        profile: Where ONNX Runtime's profile of every run goes, the beginning of a file's name;
            None for no profile.

    Attributes:
        cache: The memory that past and present are bound to.
        top_k: K, candidates of each row.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        slots: int,
        chunk: int,
        tokens: int,
        threads: int,
        spinning: bool,
        gives_way: bool = False,
        shelf_bytes: int = 0,
        profile: Path | None = None,
    ) -> None:
        multiple = artifact.row_multiple
        self.slots = -(-slots // multiple) * multiple
        self.chunk = chunk
        # A padded chunk has to fit behind a full context; the kernels ask for a multiple of 16.
        self.capacity = (artifact.context_length + chunk + 15) // 16 * 16
        opened = partial(self._open, artifact, threads, spinning, profile)
        self._session = giving_way.call(opened) if gives_way else opened()
        # Without this, what no bound output depends on is computed all the same.
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        # ONNX Runtime asks for it at every call, and where it is missing throws an error first.
        self._run_options.add_run_config_entry("gpu_graph_id", "-1")
        rows = max(self.slots, tokens)
        self.top_k = k = artifact.top_k
        vocabulary = artifact.vocabulary_size
        self.cache = CacheMemory(
            layers=artifact.layers,
            slots=self.slots,
            heads=artifact.heads,
            capacity=self.capacity,
            head_dim=artifact.head_dim,
            dtype=np.dtype(artifact.cache),
            shelf_bytes=shelf_bytes,
        )
        self._layout: Layout = (
            PaddedLayout(self.slots, rows * 2, multiple)
            if artifact.kernels is None
            else FlatLayout(self.slots, rows)
        )
        self._outputs: dict[str, np.ndarray[Any, Any]] = {
            "logprobs": np.zeros((rows, vocabulary), np.float32),
            "top_logprobs": np.zeros((rows, k), np.float32),
            "top_ids": np.zeros((rows, k), np.int64),
            "entropy": np.zeros(rows, np.float32),
            "logit_max": np.zeros(rows, np.float32),
            "temperature_mass": np.zeros(rows, np.float32),
        }
        self._views: dict[int, Distributions] = {}
        self._bindings: OrderedDict[tuple[Shape, int], ort.IOBinding] = OrderedDict()
        self._last: ort.IOBinding
        self._told: Distributions

    @staticmethod
    def _open(
        artifact: Artifact, threads: int, spinning: bool, profile: Path | None
    ) -> ort.InferenceSession:
        needed = tuple(int(part) for part in artifact.minimum_onnxruntime.split(".")[:2])
        if tuple(int(part) for part in ort.__version__.split(".")[:2]) < needed:
            raise ArtifactError(
                f"{artifact.folder} needs ONNX Runtime {artifact.minimum_onnxruntime} or newer, "
                f"this is {ort.__version__}"
            )
        options = ort.SessionOptions()
        # nextok's operators have threads of their own.
        options.intra_op_num_threads = threads if artifact.kernels is None else 1
        options.add_session_config_entry("nextok.threads", str(threads))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.log_severity_level = 3
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        # Takes slower products of bytes where the fast ones could overflow.
        precise = str(int(not sums_bytes_exactly()))
        options.add_session_config_entry("session.x64quantprecision", precise)
        if artifact.kernels is not None and artifact.kernels > nextok_kernels.VERSION:
            raise ArtifactError(
                f"{artifact.folder} needs version {artifact.kernels} of nextok-kernels' operators, "
                f"installed is {nextok_kernels.VERSION}"
            )
        try:
            if artifact.kernels is not None:
                options.register_custom_ops_library(str(nextok_kernels.library_path()))
            return ort.InferenceSession(
                artifact.model_path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ArtifactError(
                f"{artifact.model_path} cannot be loaded: {type(error).__name__}: {error}"
            ) from error

    def end_profile(self) -> Path:
        """Writes the profile, and returns where it is; once, where one was asked for."""
        return Path(self._session.end_profiling())

    @property
    def runtime_version(self) -> str:
        """ONNX Runtime's version."""
        return str(ort.__version__)

    def forward(
        self,
        chunks: list[Chunk],
        inverse_temperature: list[float],
        *,
        logit_max: bool,
        temperature_mass: bool,
    ) -> Distributions:
        """Computes chunks of some sequences, ordered by slot.

        The distributions are those of the columns in each `chunk.wanted`, one chunk after the
        other; each chunk has its own inverse temperature.
        """
        shape = self._layout.fill(chunks, inverse_temperature)
        wanted = sum(len(chunk.wanted) for chunk in chunks)
        self._last = self._binding(
            shape, 1 | logit_max << 1 | temperature_mass << 2 if wanted else 0
        )
        self._run()
        self._told = self._views_of(wanted)
        return self._told

    def tokens(self, rows: int) -> Tokens | None:
        """Inputs and outputs of the last call, which gave each of so many sequences one token.

        With the next tokens there and their positions, `again` computes those. None where the graph
        needs more than that.
        """
        if not self._layout.repeats:
            return None
        inputs = self._layout.inputs
        return Tokens(inputs["input_ids"][:rows], inputs["position_ids"][:rows], self._told)

    def again(self, chooser: BatchChooser, most: int, seconds: float) -> Distributions:
        """Computes what the inputs hold now, all else as in the last call, and what follows.

        Args:
            chooser: Chooses the tokens of each step, and knows how many steps there were.
            most: Steps, at most.
            seconds: No step begins later than that.

        Returns:
            Those of the last step.
        """
        chooser.begin(most, seconds)
        chooser.go_on()
        try:
            self._run()
        except Exception:
            chooser.leave()
            raise
        return self._told

    def _views_of(self, wanted: int) -> Distributions:
        views = self._views.get(wanted)
        if views is None:
            first = {name: array[:wanted] for name, array in self._outputs.items()}
            views = self._views[wanted] = Distributions(**first)
        return views

    def _run(self) -> None:
        with interpreter.lent():
            self._session.run_with_iobinding(self._last, self._run_options)

    def _binding(self, shape: Shape, outputs: int) -> ort.IOBinding:
        key = (shape, outputs)
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bind(shape, outputs)
            self._bindings[key] = binding
            if len(self._bindings) > _BINDINGS_KEPT:
                self._bindings.popitem(last=False)
        else:
            self._bindings.move_to_end(key)
        return binding

    def _bind(self, shape: Shape, outputs: int) -> ort.IOBinding:
        """Binds every buffer by address, for one combination of shapes."""
        binding = self._session.io_binding()
        for name, sizes in self._layout.shapes(shape).items():
            array = self._layout.inputs[name]
            binding.bind_input(name, "cpu", 0, array.dtype.type, sizes, array.ctypes.data)
        for name, array in self.cache.arrays.items():
            view = array[shape.first : shape.first + shape.rows]
            address = view.ctypes.data
            past = f"past_key_values.{name}"
            place = ("cpu", 0, array.dtype.type, view.shape, address)
            binding.bind_input(past, *place)
            binding.bind_output(f"present.{name}", *place)
        if outputs:
            left_out = {n for bit, n in enumerate(_OPTIONAL_OUTPUTS, 1) if not outputs >> bit & 1}
            for name, array in self._outputs.items():
                if name not in left_out:
                    sizes = (shape.results, *array.shape[1:])
                    binding.bind_output(name, "cpu", 0, array.dtype.type, sizes, array.ctypes.data)
        return binding
