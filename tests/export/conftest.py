"""Small checkpoints, their graphs, and a plain driver of a graph: nothing here is the export's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nextok_kernels
import numpy as np
import onnxruntime
import pytest
import torch
from support.checkpoints import export_artifact, make_checkpoint
from transformers import GPT2LMHeadModel

from nextok_export import graph, kernel_graph
from nextok_export.calibration import cache_scales
from nextok_export.checkpoint import open_checkpoint
from nextok_export.precision import Precision
from nextok_export.tape import save

VOCABULARY = 512
CONTEXT = 96
OUTPUTS = ("logprobs", "top_logprobs", "top_ids", "entropy", "logit_max", "temperature_mass")


@dataclass
class Driver:
    """Runs a serving graph as docs/artifact.md says, on rows of one cache."""

    path: Path
    rows: int = 4
    capacity: int = 2 * CONTEXT  # a multiple of 16
    fill: float = 0.0
    threads: int = 2
    cache: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 4
        # As the server does where the processor has no VNNI: the same sums, without overflow.
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.register_custom_ops_library(str(nextok_kernels.library_path()))
        self.session = onnxruntime.InferenceSession(
            self.path, options, providers=["CPUExecutionProvider"]
        )
        for entry in self.session.get_inputs():
            if entry.name.startswith("past"):
                _, heads, _, size = entry.shape
                shape = (self.rows, heads, self.capacity, size)
                whole = "int8" in entry.type
                # An int8 cannot be NaN: the largest stands for dirt.
                fill = 127 if whole and np.isnan(self.fill) else self.fill
                dtype = np.int8 if whole else np.float32
                self.cache[entry.name] = np.full(shape, fill, dtype)
        self.held = [0] * self.rows

    def step(
        self,
        chunks: Sequence[Sequence[int]],
        wanted: Sequence[tuple[int, int]],
        *,
        columns: int | None = None,
        inverse_temperature: float | Sequence[float] = 1.0,
        total: int | None = None,
    ) -> dict[str, np.ndarray]:
        """One run over rows [0, len(chunks)). Returns every output of the wanted positions."""
        inverse = np.broadcast_to(
            np.array(inverse_temperature, np.float32).reshape(-1, 1), (len(wanted), 1)
        ).copy()
        if self.is_flat:
            return self._run(self._flat(chunks, wanted, inverse), self.rows)
        return self._run(self._padded(chunks, wanted, inverse, columns, total), len(chunks))

    @property
    def is_flat(self) -> bool:
        """Whether the graph is made of nextok's own operators."""
        return any(entry.name == "slots" for entry in self.session.get_inputs())

    def _flat(self, chunks, wanted, inverse) -> dict[str, np.ndarray]:
        tokens, places, slots, starts = [], [], [], []
        for row, chunk in enumerate(chunks):
            starts.append(len(tokens))
            tokens += chunk
            places += range(self.held[row], self.held[row] + len(chunk))
            slots += [row] * len(chunk)
            self.held[row] += len(chunk)
        return {
            "input_ids": np.array(tokens, np.int64),
            "position_ids": np.array(places, np.int64),
            "slots": np.array(slots, np.int32),
            # An idle row has no position: the first token stands in for it.
            "logits_index": np.array(
                [starts[r] + c if chunks[r] else 0 for r, c in wanted], np.int64
            ),
            "inverse_temperature": inverse,
        }

    def _padded(self, chunks, wanted, inverse, columns, total) -> dict[str, np.ndarray]:
        rows = len(chunks)
        columns = columns or max(map(len, chunks))
        ids = np.zeros((rows, columns), np.int64)
        places = np.zeros((rows, columns), np.int64)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk)] = chunk
            places[row, : len(chunk)] = np.arange(self.held[row], self.held[row] + len(chunk))
            self.held[row] += len(chunk)
        held = np.array(self.held[:rows])
        return {
            "input_ids": ids,
            "position_ids": places,
            "query_seqlens": np.array([len(chunk) for chunk in chunks], np.int32),
            "seqlens_k": np.maximum(held - 1, 0).astype(np.int32),
            "total_sequence_length": np.array(total or self.capacity, np.int32),
            "logits_index": np.array([r * columns + c for r, c in wanted], np.int64),
            "inverse_temperature": inverse,
        }

    def _run(self, feeds: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, whole in self.cache.items():
            view = whole[:rows]
            place = ("cpu", 0, whole.dtype.type, view.shape, view.ctypes.data)
            binding.bind_input(name, *place)
            binding.bind_output(name.replace("past_key_values", "present"), *place)
        for name in OUTPUTS:
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        values = binding.get_outputs()[-len(OUTPUTS) :]
        return {name: value.numpy() for name, value in zip(OUTPUTS, values, strict=True)}

    def logprobs(self, chunks: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """One run; for each row, the log probabilities after every token of its chunk."""
        wanted = [(row, c) for row, chunk in enumerate(chunks) for c in range(len(chunk))]
        said = self.step(chunks, wanted)["logprobs"]
        ends = np.cumsum([len(chunk) for chunk in chunks])[:-1]
        return np.split(said, ends)


@dataclass(frozen=True)
class Oracle:
    """The checkpoint in torch: what every graph is compared with."""

    model: Any

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """float64 [len(ids), V]: the whole text at once, no cache."""
        with torch.inference_mode():
            logits = self.model(torch.tensor([list(ids)])).logits[0]
        return torch.log_softmax(logits.double(), dim=-1).numpy()


def load_oracle(folder: Path) -> Oracle:
    model = GPT2LMHeadModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return Oracle(model.eval())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are slower with more threads, and much slower on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Width 80 and inner 320 are no multiples of 64, 128 or, for width, of 32."""
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    return make_checkpoint(folder, width=80, heads=5, vocabulary=VOCABULARY, context=CONTEXT)


@pytest.fixture(scope="session")
def oracle(checkpoint: Path) -> Oracle:
    return load_oracle(checkpoint)


@pytest.fixture(scope="session")
def make_graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds the serving graph of a checkpoint, without certificate; once for the same wish."""
    made: dict[tuple[Path, str, int | None, str, str], Path] = {}

    def make(
        folder: Path,
        precision: str = "fp32",
        block_size: int | None = None,
        cache: str = "float32",
        operators: str = "nextok",
    ) -> Path:
        wish = (folder, precision, block_size, cache, operators)
        if wish not in made:
            path = tmp_path_factory.mktemp("graph") / "model.onnx"
            opened = open_checkpoint(folder)
            width = opened.architecture.width
            chosen = Precision.choose(precision, block_size, cache, operators, width=width)
            random = np.random.default_rng(6)
            texts = [random.integers(0, VOCABULARY, CONTEXT) for _ in range(4)]
            scales = cache_scales(load_oracle(folder).model, texts) if chosen.int8_cache else None
            # Small as these models are, their layers are to be quantized as large ones' are.
            page = kernel_graph if operators == "nextok" else graph
            save(page.build(opened, replace(chosen, float_layers=False), scales), path)
            made[wish] = path
        return made[wish]

    return make


@pytest.fixture
def drive(checkpoint: Path, make_graph: Callable[..., Path]) -> Callable[..., Driver]:
    """Opens a driver on the small checkpoint's graph."""

    def open_driver(
        precision: str = "fp32",
        block_size: int | None = None,
        cache: str = "float32",
        operators: str = "nextok",
        **options: Any,
    ) -> Driver:
        return Driver(make_graph(checkpoint, precision, block_size, cache, operators), **options)

    return open_driver


@pytest.fixture(scope="session")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 artifact with optimum's graph kept."""
    out = tmp_path_factory.mktemp("artifact") / "small"
    return export_artifact(checkpoint, out, "fp32", keep_reference=True)


@pytest.fixture(scope="session")
def text() -> list[int]:
    """A text of random tokens that fills the context."""
    return np.random.default_rng(5).integers(0, VOCABULARY, CONTEXT).tolist()


@pytest.fixture(scope="session")
def load() -> Callable[[Path], Oracle]:
    return load_oracle


@pytest.fixture(scope="session")
def driver() -> type[Driver]:
    return Driver
