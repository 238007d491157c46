"""A damaged artifact is refused before anything is loaded, and the message says why."""

import dataclasses
import hashlib
import json
import shutil

import pytest

from nextok_server.artifact import load_artifact
from nextok_server.errors import ArtifactError
from nextok_server.model import Model


@pytest.fixture
def copy(artifacts, tmp_path):
    return shutil.copytree(artifacts["int8"], tmp_path / "artifact")


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_whole_artifact_tells_its_sizes(artifacts, checkpoint):
    artifact = load_artifact(artifacts["int8"])
    config = json.loads((checkpoint / "config.json").read_text())
    assert artifact.layers == config["n_layer"]
    assert artifact.heads * artifact.head_dim == artifact.width == config["n_embd"]
    assert artifact.context_length == config["n_positions"]
    assert artifact.vocabulary_size == config["vocab_size"]
    assert artifact.precision == "int8"
    assert artifact.certificate["approximate"] is True


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "certificate.json"])
def test_one_flipped_bit_is_found(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{name} has SHA-256"):
        load_artifact(copy)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "certificate.json"])
def test_a_truncated_file_is_found(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=f"{name} has .* bytes, the manifest says"):
        load_artifact(copy)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "certificate.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_artifact(copy)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "..", ""])
def test_a_file_outside_the_folder_is_refused(copy, name):
    edit_manifest(copy, lambda m: m["files"].update({name: m["files"]["model.onnx"]}))
    with pytest.raises(ArtifactError, match="not a plain file name"):
        load_artifact(copy)


def test_a_symbolic_link_is_refused(copy):
    (copy / "model.onnx").rename(copy / "elsewhere")
    (copy / "model.onnx").symlink_to(copy / "elsewhere")
    with pytest.raises(ArtifactError, match="not a regular file"):
        load_artifact(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=1), "schema_version is 1"),
        (lambda m: m.update(cache="int4"), "cache is 'int4'"),
        (lambda m: m.update(row_multiple=0), "row_multiple is 0"),
        (lambda m: m.pop("schema_version"), "schema_version is None"),
        (lambda m: m.update(layers=0), "layers is 0"),
        (lambda m: m.update(heads="12"), "heads is '12'"),
        (lambda m: m.pop("width"), "width"),
        (lambda m: m.update(files=[]), "files is"),
        (lambda m: m["files"].pop("model.onnx"), "does not list model.onnx"),
        (lambda m: m["files"]["model.onnx"].pop("sha256"), "no bytes and sha256 for model.onnx"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(copy, change, message):
    edit_manifest(copy, change)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(copy)


@pytest.mark.parametrize("content", ["", "[]", "{", '"x"'])
def test_a_manifest_that_is_no_object_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_artifact(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "model.onnx.data"])
def test_a_graph_with_tensors_in_a_file_that_nobody_checked_is_refused(copy, name):
    path = copy / "model.onnx"

    def field(number, data):
        assert len(data) < 128
        return bytes([number << 3 | 2, len(data)]) + data

    entry = field(13, field(1, b"location") + field(2, name.encode()))
    data = path.read_bytes() + field(7, field(5, entry))
    path.write_bytes(data)
    told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(copy, lambda m: m["files"].update({"model.onnx": told}))
    with pytest.raises(ArtifactError, match=f"has tensors in '{name}'"):
        load_artifact(copy)


def opened(artifact, kernels):
    artifact = dataclasses.replace(artifact, kernels=kernels)
    return Model(artifact, slots=2, chunk=8, tokens=8, threads=1, spinning=False)


def test_a_graph_of_newer_operators_than_are_installed_is_refused(artifacts):
    artifact = load_artifact(artifacts["int8"])
    newer = artifact.kernels + 1
    with pytest.raises(ArtifactError, match=f"needs version {newer} of nextok-kernels' operators"):
        opened(artifact, newer)


def test_a_graph_of_older_operators_is_served(artifacts):
    artifact = load_artifact(artifacts["int8"])
    assert opened(artifact, artifact.kernels - 1).runtime_version
