"""Reads an artifact's manifest and proves its files before anything else opens them.

Knows: manifest.json, certificate.json, hashes, containment. Does not know: ONNX Runtime.
The format is described in docs/artifact.md.
"""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextok_server.errors import ArtifactError
from nextok_server.external_data import locations

SCHEMA_VERSION = 3
REQUIRED = ("model.onnx", "tokenizer.json", "certificate.json")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A checked artifact.

    Attributes:
        folder: Where its files are.
        sha256: Hash of manifest.json: the artifact's identity.
        top_k: Candidates that the graph lists.
        cache: What keys and values are kept in, `float32` or `int8`.
        kernels: The version of nextok's operators that the graph needs, if any.
        row_multiple: What the rows of each product are padded to a multiple of.
        certificate: certificate.json, as it is.
    """

    folder: Path
    sha256: str
    model_name: str
    precision: str
    cache: str
    kernels: int | None
    row_multiple: int
    layers: int
    heads: int
    head_dim: int
    width: int
    vocabulary_size: int
    context_length: int
    top_k: int
    eos_token_ids: tuple[int, ...]
    minimum_onnxruntime: str
    source_sha256: str
    certificate: dict[str, Any]

    @property
    def model_path(self) -> Path:
        """The serving graph."""
        return self.folder / "model.onnx"

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer."""
        return self.folder / "tokenizer.json"


def load_artifact(folder: Path) -> Artifact:
    """Reads and checks an artifact.

    Raises:
        ArtifactError: Something is missing, damaged, outside the folder or of another
            schema; the message says what.
    """
    manifest_path = folder / "manifest.json"
    try:
        raw = manifest_path.read_bytes()
        manifest = json.loads(raw)
    except OSError as error:
        raise ArtifactError(f"{manifest_path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ArtifactError(f"{manifest_path} is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{manifest_path} does not hold an object")
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{manifest_path}: schema_version is {version!r}, this server reads {SCHEMA_VERSION}"
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise ArtifactError(f"{manifest_path}: files is {files!r}, expected an object")
    for name in REQUIRED:
        if name not in files:
            raise ArtifactError(f"{manifest_path}: files does not list {name}")
    for name, entry in files.items():
        _check_file(folder, name, entry)
    _check_locations(folder, set(files))
    certificate = json.loads((folder / "certificate.json").read_bytes())
    return _parse(folder, hashlib.sha256(raw).hexdigest(), manifest, certificate)


def _check_file(folder: Path, name: str, entry: Any) -> None:
    """Containment, then size, then hash, so that nothing large is read for nothing."""
    if not name or name != Path(name).name or name in (".", ".."):
        raise ArtifactError(f"{folder}: {name!r} is not a plain file name")
    if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
        raise ArtifactError(f"{folder}: the manifest gives no bytes and sha256 for {name}")
    path = folder / name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path} is not a regular file")
        if status.st_size != entry["bytes"]:
            raise ArtifactError(
                f"{path} has {status.st_size} bytes, the manifest says {entry['bytes']}"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from error
    if digest != entry["sha256"]:
        raise ArtifactError(f"{path} has SHA-256 {digest}, the manifest says {entry['sha256']}")


def _check_locations(folder: Path, checked: set[str]) -> None:
    """Refuses a graph that would have other files read than those that were checked."""
    path = folder / "model.onnx"
    try:
        named = locations(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not an ONNX graph: {error}") from error
    for name in sorted(named - checked):
        raise ArtifactError(
            f"{path} has tensors in {name!r}, which the manifest does not list as a file"
        )


def _parse(
    folder: Path, sha256: str, manifest: dict[str, Any], certificate: dict[str, Any]
) -> Artifact:
    try:
        return Artifact(
            folder=folder,
            sha256=sha256,
            model_name=str(manifest["model_name"]),
            precision=str(manifest["precision"]),
            cache=_cache(manifest["cache"]),
            kernels=None if manifest["kernels"] is None else _positive(manifest, "kernels"),
            row_multiple=_positive(manifest, "row_multiple"),
            layers=_positive(manifest, "layers"),
            heads=_positive(manifest, "heads"),
            head_dim=_positive(manifest, "head_dim"),
            width=_positive(manifest, "width"),
            vocabulary_size=_positive(manifest, "vocabulary_size"),
            context_length=_positive(manifest, "context_length"),
            top_k=_positive(manifest, "top_k"),
            eos_token_ids=tuple(int(token_id) for token_id in manifest["eos_token_ids"]),
            minimum_onnxruntime=str(manifest["minimum_onnxruntime"]),
            source_sha256=str(manifest["source"]["sha256"]),
            certificate=certificate,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder / 'manifest.json'}: {error!r}") from error


def _cache(value: Any) -> str:
    if value not in ("float32", "int8"):
        raise ValueError(f"cache is {value!r}, expected float32 or int8")
    return str(value)


def _positive(manifest: dict[str, Any], key: str) -> int:
    value = manifest[key]
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {value!r}, expected a whole number over 0")
    return value
