"""The serving graph says what the checkpoint says, however it is driven."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest

TOLERANCE = 1e-4


def differs(served: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(served - expected).max())


def test_a_whole_prompt_equals_torch(drive, oracle, text):
    (served,) = drive().logprobs([text])
    assert differs(served, oracle.logprobs(text)) < TOLERANCE


@pytest.mark.parametrize("chunk", [1, 2, 7, 32, 64])
def test_chunks_of_any_size_equal_torch(drive, oracle, text, chunk):
    graph = drive()
    served = [graph.logprobs([text[at : at + chunk]])[0] for at in range(0, len(text), chunk)]
    assert differs(np.concatenate(served), oracle.logprobs(text)) < TOLERANCE


def test_decode_equals_torch_up_to_the_last_position(drive, oracle, text):
    graph = drive()
    served = [graph.logprobs([text[:9]])[0]]
    served += [graph.logprobs([[token]])[0] for token in text[9:]]
    assert graph.held[0] == len(text)
    assert differs(np.concatenate(served), oracle.logprobs(text)) < TOLERANCE


def test_a_one_token_prompt_equals_torch(drive, oracle, text):
    (served,) = drive().logprobs([text[:1]])
    assert differs(served, oracle.logprobs(text[:1])) < TOLERANCE


def test_ragged_batches_with_idle_rows_equal_torch(drive, oracle):
    random = np.random.default_rng(1)
    texts = [random.integers(0, 512, 60).tolist() for _ in range(4)]
    graph, said = drive(), [[] for _ in texts]
    while any(graph.held[row] < 60 for row in range(4)):
        chunks = []
        for row, ids in enumerate(texts):
            length = int(random.choice([0, 1, 1, 5, 17]))
            chunks.append(ids[graph.held[row] : graph.held[row] + length])
        if not any(chunks):
            continue
        for row, block in enumerate(graph.logprobs(chunks)):
            said[row].append(block)
    for ids, blocks in zip(texts, said, strict=True):
        assert differs(np.concatenate(blocks), oracle.logprobs(ids)) < TOLERANCE


def test_the_portable_reference_equals_the_serving_graph(artifact, driver, text):
    portable = onnxruntime.InferenceSession(artifact / "reference.onnx")
    feeds = {
        "input_ids": np.array([text]),
        "attention_mask": np.ones((1, len(text)), np.int64),
        "position_ids": np.arange(len(text))[None],
    }
    for entry in portable.get_inputs():
        if entry.name.startswith("past"):
            feeds[entry.name] = np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
    logits = portable.run(["logits"], feeds)[0][0].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    (served,) = driver(artifact / "model.onnx").logprobs([text])
    assert differs(served, expected) < TOLERANCE


@pytest.mark.parametrize(
    ("storage", "limit"),
    [
        (("int8", None, "float32", "nextok"), 4e-3),
        (("int8", None, "int8", "nextok"), 6e-3),
        (("int4", None, "int8", "nextok"), 0.4),
        (("int8", 32, "float32", "onnxruntime"), 2e-3),
        (("int8", 128, "float32", "onnxruntime"), 3e-3),
        (("int8", 0, "float32", "onnxruntime"), 4e-3),
        (("int8", 0, "int8", "onnxruntime"), 6e-3),
        (("int4", 16, "float32", "onnxruntime"), 0.3),
        (("int4", 32, "int8", "onnxruntime"), 0.4),
    ],
)
def test_rounded_weights_stay_near_torch(drive, oracle, text, storage, limit):
    (served,) = drive(*storage).logprobs([text])
    expected = oracle.logprobs(text)
    divergence = (np.exp(expected) * (expected - served)).sum(axis=-1).mean()
    assert 0 < divergence < limit


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 30.0])
def test_what_is_told_of_a_position_equals_numpy(drive, text, precision, temperature):
    wanted = [(0, 3), (0, 50), (0, 95), (0, 3)]
    said = drive(precision).step([text], wanted, inverse_temperature=1 / temperature)
    logprobs = said["logprobs"].astype(np.float64)
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=-1), 1, rtol=1e-5)
    order = np.argsort(-said["logprobs"], axis=-1, kind="stable")[:, :64]
    np.testing.assert_array_equal(said["top_ids"], order)
    np.testing.assert_array_equal(
        said["top_logprobs"], np.take_along_axis(said["logprobs"], order, axis=-1)
    )
    entropy = -(np.exp(logprobs) * logprobs).sum(axis=-1)
    np.testing.assert_allclose(said["entropy"], entropy, rtol=2e-6)
    mass = np.exp((logprobs - logprobs.max(axis=-1, keepdims=True)) / temperature).sum(axis=-1)
    np.testing.assert_allclose(said["temperature_mass"], mass, rtol=2e-6)


def test_logits_can_be_had_from_log_probabilities_and_the_largest_logit(drive, oracle, text):
    import torch

    said = drive().step([text], [(0, 10), (0, 95)])
    with torch.inference_mode():
        logits = oracle.model(torch.tensor([text])).logits[0, [10, 95]].numpy()
    rebuilt = said["logprobs"] + (said["logit_max"] - said["top_logprobs"][:, 0])[:, None]
    assert differs(rebuilt, logits) < TOLERANCE


def test_each_row_has_its_own_temperature(drive, text):
    inverse = [1.0, 0.5, 2.0, 1.0]
    wanted = [(0, 20)] * 4
    mass = drive().step([text], wanted, inverse_temperature=inverse)["temperature_mass"]
    assert mass[0] == mass[3]
    assert mass[1] > mass[0] > mass[2]


def test_equal_probabilities_are_listed_by_lower_id(drive, checkpoint, tmp_path, driver, text):
    from nextok_export.checkpoint import open_checkpoint
    from nextok_export.graph import build
    from nextok_export.precision import Precision
    from nextok_export.tape import save

    class Flat:
        """A checkpoint whose tokens all have the same embedding."""

        def __init__(self) -> None:
            self._real = open_checkpoint(checkpoint)
            self.architecture = self._real.architecture

        def tensor(self, name: str) -> np.ndarray:
            array = self._real.tensor(name)
            return np.ones_like(array) if name == "wte.weight" else array

    save(build(Flat(), Precision("fp32", None)), tmp_path / "model.onnx")
    said = driver(tmp_path / "model.onnx").step([text[:4]], [(0, 3), (0, 3)])
    np.testing.assert_array_equal(said["top_ids"], np.arange(64)[None].repeat(2, axis=0))
    np.testing.assert_allclose(said["top_logprobs"], -math.log(512), rtol=1e-6)


@pytest.mark.parametrize(
    ("operators", "own"),
    [
        ("nextok", ["slots"]),
        ("onnxruntime", ["query_seqlens", "seqlens_k", "total_sequence_length"]),
    ],
)
def test_names_are_those_of_the_contract(drive, operators, own):
    session = drive(operators=operators).session
    assert [entry.name for entry in session.get_inputs()] == [
        "input_ids",
        "position_ids",
        *own,
        "logits_index",
        "inverse_temperature",
        *(f"past_key_values.{i}.{part}" for i in range(2) for part in ("key", "value")),
    ]
    assert [entry.name for entry in session.get_outputs()] == [
        "logprobs",
        "top_logprobs",
        "top_ids",
        "entropy",
        "logit_max",
        "temperature_mass",
        *(f"present.{i}.{part}" for i in range(2) for part in ("key", "value")),
    ]


def test_a_vocabulary_smaller_than_the_list_is_listed_whole(tmp_path, make_graph, driver):
    from support.checkpoints import random_weights

    from nextok_export.architecture import Architecture
    from nextok_export.graph import build
    from nextok_export.precision import Precision
    from nextok_export.tape import save

    shape = Architecture(1, 2, 32, 128, 40, 16, "gelu_new", 1e-5, (0.25,), True)
    config = {"n_embd": 32, "vocab_size": 40, "n_positions": 16, "n_layer": 1}

    class Small:
        architecture = shape
        tensors = random_weights(config, seed=0, spread=2.0)

        def tensor(self, name: str) -> np.ndarray:
            return self.tensors[name]

    save(build(Small(), Precision("int8", 32)), tmp_path / "model.onnx")
    said = driver(tmp_path / "model.onnx", capacity=32).step([[1, 2]], [(0, 0), (0, 1)])
    assert said["top_ids"].shape == (2, 40)
    assert sorted(said["top_ids"][0].tolist()) == list(range(40))
