"""Every GPT-2 that is supported computes what torch computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file
from support.checkpoints import make_checkpoint

from nextok_export.activations import ACTIVATIONS

TEXT = np.random.default_rng(8).integers(0, 300, 40).tolist()
VARIANTS = {
    "untied head": {"tie_word_embeddings": False},
    "narrow inner layer": {"n_inner": 96},
    "inner layer that fills no block": {"n_inner": 100},
    "attention scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "attention not scaled": {"scale_attn_weights": False},
    "attention upcast and scaled by layer": {
        "reorder_and_upcast_attn": True,
        "scale_attn_by_inverse_layer_idx": True,
    },
    "another epsilon": {"layer_norm_epsilon": 1e-3},
    "odd width": {"width": 72, "heads": 3},
    "small heads": {"width": 40, "heads": 5},
    "one head": {"width": 48, "heads": 1},
    "one layer": {"layers": 1},
    "odd vocabulary": {"vocabulary": 301},
    "no prefix before names": {"prefix": ""},
}


def check(folder, make_graph, driver, load, precision="fp32", limit=1e-4):
    graph = driver(make_graph(folder, precision), capacity=128)
    served = [graph.logprobs([TEXT[:20]])[0]]
    served += [graph.logprobs([[token], []])[0] for token in TEXT[20:]]
    expected = load(folder).logprobs(TEXT)
    if precision == "fp32":
        assert np.abs(np.concatenate(served) - expected).max() < limit
    else:
        divergence = np.exp(expected) * (expected - np.concatenate(served))
        assert 0 < divergence.sum(axis=-1).mean() < limit


def small(folder, **options):
    settings = {"width": 64, "heads": 4, "layers": 3, "vocabulary": 320, "context": 64} | options
    return make_checkpoint(folder, **settings)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_equals_torch(tmp_path, make_graph, driver, load, variant):
    check(small(tmp_path, **VARIANTS[variant]), make_graph, driver, load)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_in_int8_stays_near_torch(tmp_path, make_graph, driver, load, variant):
    folder = small(tmp_path, **VARIANTS[variant])
    check(folder, make_graph, driver, load, precision="int8", limit=2e-2)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_equals_torch(tmp_path, make_graph, driver, load, name):
    check(small(tmp_path, activation_function=name), make_graph, driver, load)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_16_bits_are_widened(tmp_path, make_graph, driver, load, dtype):
    folder = small(tmp_path)
    whole = load_file(folder / "model.safetensors")
    halved = {name: torch.from_numpy(tensor).to(dtype) for name, tensor in whole.items()}
    save_torch_file(halved, folder / "model.safetensors", {"format": "pt"})
    check(folder, make_graph, driver, load)


def test_weights_may_be_in_several_files(tmp_path, make_graph, driver, load):
    folder = small(tmp_path)
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, index = sorted(whole), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: whole[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    listing = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listing))
    check(folder, make_graph, driver, load)


def test_masks_that_old_checkpoints_store_are_passed_over(tmp_path, make_graph, driver, load):
    folder = small(tmp_path)
    whole = load_file(folder / "model.safetensors")
    whole["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.uint8))
    whole["transformer.h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    check(folder, make_graph, driver, load)


def test_weights_beyond_one_file_lie_beside_the_graph(tmp_path, load, driver):
    from nextok_export.checkpoint import open_checkpoint
    from nextok_export.graph import build
    from nextok_export.precision import Precision
    from nextok_export.tape import save

    folder, path = small(tmp_path / "checkpoint"), tmp_path / "model.onnx"
    save(build(open_checkpoint(folder), Precision("fp32", None)), path, inline_limit=1000)
    assert (tmp_path / "model.onnx.data").stat().st_size > 100 * path.stat().st_size / 10
    (served,) = driver(path, capacity=128).logprobs([TEXT])
    assert np.abs(served - load(folder).logprobs(TEXT)).max() < 1e-4


def test_embedding_and_head_share_one_table(tmp_path, make_graph):
    import onnx

    for precision, block in (("fp32", None), ("int8", None)):
        tied, untied = (
            make_graph(
                small(tmp_path / f"{precision}{tie}", tie_word_embeddings=tie), precision, block
            )
            for tie in (True, False)
        )
        large = [
            [
                tensor
                for tensor in onnx.load(path).graph.initializer
                if tensor.name.startswith(("wte.", "lm_head."))
            ]
            for path in (tied, untied)
        ]
        stored = [sum(len(tensor.raw_data) for tensor in tensors) for tensors in large]
        assert stored[0] < 0.6 * stored[1]
