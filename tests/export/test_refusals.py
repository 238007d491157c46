"""What cannot be served is refused by name, before any work is done."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import make_checkpoint

from nextok_export import ExportError, UnsupportedModelError, UsageError, export


@pytest.fixture
def folder(tmp_path):
    return make_checkpoint(
        tmp_path / "model", width=32, heads=2, layers=1, vocabulary=300, context=32
    )


@pytest.fixture
def refuse(tmp_path, monkeypatch):
    """Exports, and gives the message; the work must not have begun."""

    def work(*args, **kwargs):
        raise AssertionError("work was begun")

    monkeypatch.setattr("nextok_export.pipeline.load_model", work)
    monkeypatch.setattr("nextok_export.pipeline.build", work)

    def try_export(model, error=UnsupportedModelError, out=tmp_path / "out", **options) -> str:
        with pytest.raises(error) as caught:
            export(model, out, **options)
        assert isinstance(caught.value, ExportError)
        return str(caught.value)

    return try_export


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("model_type", "llama", "'gpt2'"),
        ("model_type", None, "'gpt2'"),
        ("architectures", ["GPT2ForSequenceClassification"], "'GPT2LMHeadModel'"),
        ("add_cross_attention", True, "False"),
        ("activation_function", "swiglu", "'gelu_new'"),
        ("scale_attn_weights", "yes", "True"),
        ("tie_word_embeddings", 2, "True"),
        ("n_layer", 0, "at least 1"),
        ("n_layer", "12", "at least 1"),
        ("n_head", 3, "multiple of 8"),
        ("n_head", 8, "multiple of 8"),
        ("vocab_size", -1, "at least 1"),
        ("n_positions", 1.5, "at least 1"),
        ("n_inner", 0, "at least 1"),
        ("layer_norm_epsilon", 0, "above 0"),
        ("layer_norm_epsilon", float("inf"), "above 0"),
        ("layer_norm_epsilon", float("nan"), "above 0"),
        ("quantization_config", {"bits": 4}, "absent"),
    ],
)
def test_a_key_of_the_config_is_named_with_its_value(folder, refuse, key, value, allowed):
    configure(folder, **{key: value})
    message = refuse(folder)
    assert f"{key} is {value!r}" in message
    assert allowed in message


def test_pickled_weights(folder, refuse):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refuse(folder)
    assert "pytorch_model.bin" in message
    assert "model.safetensors" in message


def test_a_file_that_only_has_the_name_of_safetensors(folder, refuse):
    (folder / "model.safetensors").write_bytes(b"\x80\x04 this would be a pickle")
    assert "not a safetensors file" in refuse(folder)


def test_a_missing_tensor(folder, refuse):
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.0.mlp.c_fc.bias"]
    save_file(tensors, folder / "model.safetensors")
    assert "'h.0.mlp.c_fc.bias'" in refuse(folder)


def test_an_untied_head_that_is_missing(folder, refuse):
    configure(folder, tie_word_embeddings=False)
    assert "'lm_head.weight'" in refuse(folder)


def test_a_tensor_of_another_shape(folder, refuse):
    configure(folder, n_inner=96)
    message = refuse(folder)
    assert "[32, 128]" in message
    assert "[32, 96]" in message


def test_a_tensor_of_integers(folder, refuse):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"].astype(np.int8)
    save_file(tensors, folder / "model.safetensors")
    message = refuse(folder)
    assert "transformer.wpe.weight" in message
    assert "I8" in message


def test_a_shard_that_is_missing_or_outside_the_folder(folder, refuse):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    for name in ("model-1.safetensors", "../model.safetensors"):
        index.write_text(json.dumps({"weight_map": {"transformer.wte.weight": name}}))
        assert repr(name) in refuse(folder)


def test_no_config(folder, refuse):
    (folder / "config.json").unlink()
    assert "config.json: no such file" in refuse(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_config_that_is_not_a_json_object(folder, refuse, content):
    (folder / "config.json").write_text(content)
    assert "config.json" in refuse(folder)


def test_no_tokenizer(folder, refuse):
    (folder / "merges.txt").unlink()
    assert "merges.txt" in refuse(folder)


def test_a_tokenizer_that_is_no_byte_level_bpe(folder, refuse):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    assert "WordLevel" in refuse(folder)


def test_a_tokenizer_with_more_ids_than_the_model(folder, refuse):
    ids = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(ids | {"more": 300}))
    assert "300" in refuse(folder)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"precision": "fp16"}, ("'fp16'", "fp32, int8, int4")),
        ({"block_size": 48}, ("48", "at int8: 0, 16, 32, 64, 128")),
        ({"block_size": 64, "operators": "nextok"}, ("64", "with nextok's operators: 0")),
        ({"block_size": 48, "operators": "onnxruntime"}, ("48", "32, 64, 128")),
        ({"operators": "torch"}, ("'torch'", "nextok, onnxruntime")),
        ({"precision": "fp32", "block_size": 32}, ("32", "none")),
        (
            {"precision": "int4", "block_size": 0, "operators": "onnxruntime"},
            ("0", "16, 32, 64, 128, 256"),
        ),
        ({"cache": "int4"}, ("'int4'", "float32, int8")),
        ({"precision": "fp32", "cache": "int8"}, ("'int8'", "at fp32: float32")),
        ({"positions": 0}, ("0", "at least 1")),
    ],
)
def test_an_option_is_named_with_its_value(folder, refuse, options, parts):
    message = refuse(folder, UsageError, **options)
    assert all(part in message for part in parts)


@pytest.mark.parametrize("model", ["no/such/folder/here", "../nothing", ""])
def test_a_model_that_is_not_there(refuse, model):
    message = refuse(model, UsageError)
    assert repr(model) in message


def test_a_hub_that_cannot_be_reached(refuse, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(model, **options):
        assert options["allow_patterns"] == ["*.json", "*.safetensors", "merges.txt"]
        raise LocalEntryNotFoundError("no way to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refuse("someone/some-gpt2", UsageError)
    assert "someone/some-gpt2" in message
    assert "no way to the hub" in message


def test_places_that_must_not_be_written_to(folder, refuse, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    for force in (False, True):
        assert str(taken) in refuse(folder, UsageError, out=taken, force=force)
    (tmp_path / "file").write_text("")
    assert "this is something else" in refuse(folder, UsageError, out=tmp_path / "file")
    assert "not a folder" in refuse(folder, UsageError, out=tmp_path / "no" / "where")
    assert (taken / "thesis.txt").read_text() == "years of work"
