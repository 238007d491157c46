"""All layers as one operator, and the threads that go through them."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nextok_kernels
import numpy as np
import onnx
import onnxruntime
import pytest
from support.checkpoints import make_checkpoint

from nextok_export import kernel_graph
from nextok_export.checkpoint import open_checkpoint
from nextok_export.precision import Precision
from nextok_export.tape import save

PRECISIONS = ("fp32", "int8", "int4")
LAYERS, HEADS, WIDTH, SLOTS, CAPACITY = 5, 4, 256, 12, 64
MANY = 2 * (os.cpu_count() or 1) + 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    make_checkpoint(
        folder, width=WIDTH, heads=HEADS, layers=LAYERS, vocabulary=320, context=CAPACITY
    )
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def graphs(checkpoint, tmp_path_factory):
    """The model's file, by precision."""
    folder = tmp_path_factory.mktemp("graphs")
    return {precision: write(checkpoint, precision, folder) for precision in PRECISIONS}


def write(checkpoint, precision, folder):
    chosen = Precision.choose(precision, operators="nextok", width=WIDTH)
    steps = np.full(WIDTH, 0.02, np.float32)
    scales = [(steps, steps)] * LAYERS if chosen.int8_cache else None
    save(kernel_graph.build(checkpoint, chosen, scales), folder / f"{precision}.onnx")
    return folder / f"{precision}.onnx"


class Opened:
    """A session with a cache of its own."""

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("nextok.threads", str(threads))
        options.register_custom_ops_library(str(nextok_kernels.library_path()))
        self.operators = {node.op_type for node in onnx.load(path).graph.node}
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.cache = {
            entry.name: np.zeros(
                (SLOTS, HEADS, CAPACITY, WIDTH // HEADS),
                np.int8 if "int8" in entry.type else np.float32,
            )
            for entry in self.session.get_inputs()
            if entry.name.startswith("past")
        }

    def run(self, ids, positions, slots, wanted, *, apart=False):
        binding = self.session.io_binding()
        feeds = {
            "input_ids": np.array(ids, np.int64),
            "position_ids": np.array(positions, np.int64),
            "slots": np.array(slots, np.int32),
            "logits_index": np.array(wanted, np.int64),
            "inverse_temperature": np.ones((len(wanted), 1), np.float32),
        }
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, array in self.cache.items():
            present = np.zeros_like(array) if apart else array
            about = "cpu", 0, array.dtype.type, array.shape
            binding.bind_input(name, *about, array.ctypes.data)
            into = name.replace("past_key_values", "present")
            binding.bind_output(into, *about, present.ctypes.data)
        binding.bind_output("logprobs", "cpu")
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()


def steps():
    """Steps of all kinds: ids, positions, slots, wanted rows."""
    random = np.random.default_rng(5)

    def step(lengths, starts, wanted):
        positions = [s + i for n, s in zip(lengths, starts, strict=True) for i in range(n)]
        slots = [slot for slot, n in enumerate(lengths) for _ in range(n)]
        return random.integers(0, 320, len(positions)).tolist(), positions, slots, wanted

    yield step([30, 1, 7], [0, 0, 0], [29, 30, 37])
    yield step([1, 1, 1], [30, 1, 7], [0, 1, 2])
    yield step([1], [31], [0])
    yield step([2, 1], [32, 2], [2])
    yield step([9, 9], [34, 3], [17, 0, 0, 4])
    yield step([20, 11, 40], [43, 12, 8], list(range(71)))
    yield step([1] * SLOTS, [63, 23, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0], list(range(SLOTS)))
    yield step([0, 0, 0, 1, 2, 1, 1, 1, 1, 1, 1, 1], [0] * 3 + [1] * 9, [9, 3])


@pytest.mark.parametrize("threads", [1, 2, MANY])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_row_has_the_bits_that_it_has_alone_on_one_thread(graphs, precision, threads):
    together, alone = Opened(graphs[precision], threads), Opened(graphs[precision], 1)
    for ids, positions, slots, wanted in steps():
        said = together.run(ids, positions, slots, wanted)
        rows = [
            alone.run(*([value] for value in row), [0])
            for row in zip(ids, positions, slots, strict=True)
        ]
        np.testing.assert_array_equal(said, np.concatenate([rows[index] for index in wanted]))
    for name, cache in together.cache.items():
        np.testing.assert_array_equal(cache, alone.cache[name])


def test_layers_as_one_operator_compute_what_the_operators_apart_do(
    graphs, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(kernel_graph._Page, "is_fused", False)
    one, apart = Opened(graphs["fp32"], 2), Opened(write(checkpoint, "fp32", tmp_path), 2)
    assert "LayersFloat32" in one.operators
    assert {"LinearFloat32", "AttentionFloat32"} <= apart.operators
    for step in steps():
        # The activation between the products is ONNX Runtime's there.
        np.testing.assert_allclose(one.run(*step), apart.run(*step), atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads_that_lose_their_processors_all_the_time_change_no_bits(graphs, precision):
    crowded, alone = (Opened(graphs[precision], threads) for threads in (MANY, 1))
    for start in range(CAPACITY):
        step = [start] * SLOTS, [start] * SLOTS, list(range(SLOTS)), list(range(SLOTS))
        np.testing.assert_array_equal(crowded.run(*step), alone.run(*step))


def test_runs_of_one_session_at_the_same_time_wait_for_each_other(graphs):
    opened = Opened(graphs["int8"], 2)
    expected = [opened.run([slot], [0], [slot], [0]) for slot in range(SLOTS)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            said = pool.map(lambda slot: opened.run([slot], [0], [slot], [0]), range(SLOTS))
            for one, other in zip(said, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_sessions_threads_end_with_it(graphs):
    folder = Path("/proc/self/task")
    if not folder.is_dir():
        pytest.skip("the system does not tell of its threads")

    def tasks():
        return len(list(folder.iterdir()))

    Opened(graphs["fp32"], 1)
    gc.collect()
    before = tasks()
    opened = Opened(graphs["fp32"], 5)
    assert tasks() == before + 4
    del opened
    gc.collect()
    assert tasks() == before


@pytest.mark.parametrize("count", ["0", "-1", "1025", "two", ""])
def test_a_number_of_threads_that_there_cannot_be_is_refused(graphs, count):
    with pytest.raises(Exception, match=f"nextok.threads is {count}; allowed: 1 to 1024"):
        Opened(graphs["fp32"], count)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (([5, 6], [0, 1], [0, 0], [2]), "logits_index holds 2; allowed: 0 to 1"),
        (([5, 6], [0, 1], [0, 0], [-1]), "logits_index holds -1; allowed: 0 to 1"),
        (([5], [0], [SLOTS], [0]), f"slots holds {SLOTS}; allowed: 0 to {SLOTS - 1}"),
        (([5], [CAPACITY], [0], [0]), f"position_ids holds {CAPACITY}; allowed: 0 to"),
        (([320], [0], [0], [0]), "input_ids holds 320; allowed: 0 to 319"),
    ],
)
def test_inputs_that_point_to_nothing_are_refused(graphs, step, message):
    opened = Opened(graphs["int8"], 2)
    with pytest.raises(Exception, match=message):
        opened.run(*step)
    assert np.isfinite(opened.run([5], [0], [0], [0])).all()


def test_past_and_present_apart_are_refused(graphs):
    opened = Opened(graphs["fp32"], 2)
    with pytest.raises(Exception, match="bound to the same memory"):
        opened.run([5], [0], [0], [0], apart=True)
