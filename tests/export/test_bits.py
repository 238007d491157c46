"""The same text has the same bits, whoever its neighbours are."""

from __future__ import annotations

import numpy as np
import pytest

STORAGES = [
    ("fp32", None, "float32", "nextok"),
    ("int8", None, "float32", "nextok"),
    ("int8", None, "int8", "nextok"),
    ("int4", None, "int8", "nextok"),
    ("fp32", None, "float32", "onnxruntime"),
    ("int8", 64, "float32", "onnxruntime"),
    ("int8", 128, "int8", "onnxruntime"),
    ("int8", 0, "float32", "onnxruntime"),
    ("int8", 0, "int8", "onnxruntime"),
    ("int4", 32, "int8", "onnxruntime"),
    ("int4", 128, "float32", "onnxruntime"),
]
LENGTHS = (7, 40, 1, 23, 12, 33)

each_storage = pytest.mark.parametrize("storage", STORAGES)
single_rows = [s for s in STORAGES if s[3] == "nextok" or s[:2] == ("int8", 0)]
rows_storage = pytest.mark.parametrize("storage", single_rows)
own_storage = pytest.mark.parametrize("storage", [s for s in STORAGES if s[3] == "nextok"])


def texts() -> list[list[int]]:
    random = np.random.default_rng(3)
    return [random.integers(0, 512, length + 8).tolist() for length in LENGTHS]


def alone(graph, ids: list[int], length: int, columns: int = 48) -> list[dict[str, np.ndarray]]:
    """Prefill of one row with an idle one beside it, then eight tokens decoded."""
    said = [graph.step([ids[:length], []], [(0, length - 1)] * 2, columns=columns)]
    said += [graph.step([[token], []], [(0, 0)] * 2) for token in ids[length:]]
    return [{name: value[0] for name, value in step.items()} for step in said]


def crowd(graph, all_texts: list[list[int]], idle: set[int]) -> list[list[dict[str, np.ndarray]]]:
    """All rows prefilled in one step, then decoded side by side but for the idle ones."""
    rows = range(len(all_texts))
    prompts = [ids[:length] for ids, length in zip(all_texts, LENGTHS, strict=False)]
    first = graph.step(prompts, [(row, LENGTHS[row] - 1) for row in rows], columns=48)
    said = [first]
    for i in range(8):
        chunks = [[] if row in idle else [all_texts[row][LENGTHS[row] + i]] for row in rows]
        said.append(graph.step(chunks, [(row, 0) for row in rows]))
    return [[{name: value[row] for name, value in step.items()} for step in said] for row in rows]


def assert_same_bits(one, other) -> None:
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=f"{name} at step {step}")


@each_storage
def test_in_a_crowd_as_alone(drive, storage):
    crowded = crowd(drive(*storage, rows=6), texts(), idle=set())
    for ids, length, together in zip(texts(), LENGTHS, crowded, strict=True):
        assert_same_bits(alone(drive(*storage), ids, length), together)


@each_storage
def test_beside_idle_rows_as_alone(drive, storage):
    graph = drive(*storage, rows=6)
    crowded = crowd(graph, texts(), idle={1, 4})
    for row in (0, 2, 3, 5):
        expected = alone(drive(*storage), texts()[row], LENGTHS[row])
        assert_same_bits(expected, crowded[row])


@each_storage
def test_with_more_padding_and_dirt_in_the_cache(drive, storage):
    ids, length = texts()[3], LENGTHS[3]
    expected = alone(drive(*storage), ids, length)
    dirty = alone(drive(*storage, fill=np.nan), ids, length, columns=80)
    assert_same_bits(expected, dirty)


@each_storage
def test_with_one_thread_as_with_two(drive, storage):
    ids, length = texts()[1], LENGTHS[1]
    one, two = (alone(drive(*storage, threads=n), ids, length) for n in (1, 2))
    assert_same_bits(one, two)


@each_storage
def test_an_idle_row_keeps_its_cache(drive, storage):
    graph = drive(*storage, fill=-7.0)
    graph.step([texts()[0][:7], texts()[1][:40]], [(0, 6), (1, 39)], columns=48)
    before = {name: cache[1].copy() for name, cache in graph.cache.items()}
    graph.step([[5], []], [(0, 0)] * 2)
    for name, cache in graph.cache.items():
        np.testing.assert_array_equal(cache[1], before[name])
        # Padding never reaches the cache: row 0 holds eight tokens and nothing after them.
        assert (cache[0][:, 8:] == -7.0).all()


@rows_storage
def test_an_odd_number_of_rows_is_as_good_as_an_even_one(drive, storage):
    """As row_multiple promises: 1 for these, 2 for the others, whose kernels take pairs."""
    ids, length = texts()[2], LENGTHS[2]
    graph = drive(*storage)
    said = [graph.step([[token]], [(0, 0)]) for token in ids[: length + 8]]
    single = [{name: value[0] for name, value in step.items()} for step in said]
    assert_same_bits(alone(drive(*storage), ids, length, columns=1), single)
    odd = crowd(drive(*storage, rows=5), texts()[:5], idle=set())
    for row in range(5):
        assert_same_bits(alone(drive(*storage), texts()[row], LENGTHS[row]), odd[row])


@own_storage
def test_cut_in_any_way_the_bits_are_those_of_single_tokens(drive, storage):
    """What nextok's own operators promise, and ONNX Runtime's do not."""
    ids = texts()[1]
    graph = drive(*storage)
    singly = [graph.step([[token]], [(0, 0)])["logprobs"][0] for token in ids]
    for cut in ((len(ids),), (1, 2, 3, 17, len(ids) - 23), (31, 1, len(ids) - 32)):
        graph, said, start = drive(*storage), [], 0
        for length in cut:
            said += list(graph.logprobs([ids[start : start + length]])[0])
            start += length
        np.testing.assert_array_equal(said, singly)
