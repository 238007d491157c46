"""An artifact is whole, tells the truth about itself, and appears in one step or not at all."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

import pytest
from support.checkpoints import export_artifact, make_checkpoint
from tokenizers import Tokenizer

from nextok_export import ArtifactError, UsageError, export


@pytest.fixture(scope="module")
def manifest(artifact):
    return json.loads((artifact / "manifest.json").read_text())


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_file_is_listed_with_its_hash_and_size(artifact, manifest):
    there = {path.name for path in artifact.iterdir()}
    assert there == {*manifest["files"], "manifest.json"}
    assert {"model.onnx", "tokenizer.json", "certificate.json", "reference.onnx"} < there
    for name, file in manifest["files"].items():
        assert file["sha256"] == digest(artifact / name)
        assert file["bytes"] == (artifact / name).stat().st_size


def test_the_manifest_has_the_keys_of_the_contract(artifact, manifest):
    assert manifest | {"files": 0, "source": 0, "tools": 0, "created": 0, "graph": 0} == {
        "schema_version": 3,
        "model_name": "small",
        "architecture": "gpt2",
        "layers": 2,
        "heads": 5,
        "head_dim": 16,
        "width": 80,
        "vocabulary_size": 512,
        "context_length": 96,
        "eos_token_ids": [511],
        "precision": "fp32",
        "block_size": None,
        "cache": "float32",
        "kernels": 2,
        "row_multiple": 1,
        "top_k": 64,
        "minimum_onnxruntime": "1.32.0",
        "graph": 0,
        "files": 0,
        "source": 0,
        "tools": 0,
        "created": 0,
    }
    assert manifest["graph"]["inputs"][-1] == "past_key_values.{i}.value"
    assert manifest["graph"]["outputs"][0] == "logprobs"
    assert datetime.fromisoformat(manifest["created"]).utcoffset().total_seconds() == 0
    assert {"torch", "onnxruntime", "transformers", "nextok"} <= manifest["tools"].keys()


def test_the_source_is_known_by_its_hash(checkpoint, manifest):
    weights = checkpoint / "model.safetensors"
    assert manifest["source"]["sha256"] == digest(weights)
    assert manifest["source"]["files"]["model.safetensors"]["sha256"] == digest(weights)


def test_the_tokenizer_is_gpt2s(tmp_path):
    folder = make_checkpoint(tmp_path / "model", width=32, heads=2, layers=1, context=32)
    out = export_artifact(folder, tmp_path / "out", "int8", positions=20)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    encoding = tokenizer.encode("I love Generative AI")
    assert encoding.ids == [40, 1842, 2980, 876, 9552]
    assert tokenizer.decode(encoding.ids) == "I love Generative AI"
    assert tokenizer.encode("<|endoftext|>").ids == [50256]


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({}, None, [299]),
        ({"eos_token_id": 7}, None, [7]),
        ({"eos_token_id": 7}, {"eos_token_id": [5, 6]}, [5, 6]),
        ({"eos_token_id": 7}, {}, [7]),
        ({"eos_token_id": 50256}, None, []),
        ({"eos_token_id": None}, None, []),
    ],
)
def test_ends_of_text_come_from_the_checkpoint(tmp_path, config, generation, expected):
    from nextok_export.checkpoint import open_checkpoint

    folder = make_checkpoint(
        tmp_path / "model", width=32, heads=2, layers=1, vocabulary=300, context=32, **config
    )
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert list(open_checkpoint(folder).eos_token_ids) == expected


def test_an_empty_folder_is_filled(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    out = export_artifact(checkpoint, tmp_path / "out", "int8", name="given")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["model_name"] == "given"
    assert manifest["block_size"] == 16  # the model is narrow
    assert manifest["kernels"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_artifact_is_replaced_only_when_told_so(checkpoint, tmp_path):
    out = export_artifact(checkpoint, tmp_path / "out", "int8")
    before = digest(out / "manifest.json")
    with pytest.raises(UsageError, match="--force"):
        export(checkpoint, out, positions=64)
    assert digest(out / "manifest.json") == before
    export_artifact(checkpoint, out, "int4", force=True)
    assert json.loads((out / "manifest.json").read_text())["precision"] == "int4"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("swap", [True, False])
def test_a_failure_leaves_the_artifact_that_was_there(checkpoint, tmp_path, monkeypatch, swap):
    import nextok_export.artifact as module

    out = export_artifact(checkpoint, tmp_path / "out", "int8")
    before = digest(out / "manifest.json")

    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_sync", full)
        with pytest.raises(ArtifactError, match="No space left"):
            export_artifact(checkpoint, out, "int4", force=True)
    assert digest(out / "manifest.json") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if not swap:
        monkeypatch.setattr(module, "_exchange", lambda *_: False)
    export_artifact(checkpoint, out, "int4", force=True)
    assert digest(out / "manifest.json") != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        assert len(list(tmp_path.iterdir())) == 1  # the folder beside the place
        raise KeyboardInterrupt

    monkeypatch.setattr("nextok_export.pipeline.certify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path / "out", positions=64)
    assert not list(tmp_path.iterdir())
