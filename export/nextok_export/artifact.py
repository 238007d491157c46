"""Writing the artifact's folder, whole or not at all.

Knows files, hashes and the manifest of docs/artifact.md. Knows nothing of how a graph is made.
"""

import ctypes
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from nextok_export import graph, kernel_graph
from nextok_export.certificate import Certificate
from nextok_export.checkpoint import Checkpoint
from nextok_export.errors import ArtifactError, UsageError
from nextok_export.graph import MINIMUM_ONNXRUNTIME, OUTPUTS, TOP_K

SCHEMA_VERSION: Final = 3
MANIFEST: Final = "manifest.json"
_TOOLS: Final = (
    "nextok",
    "nextok-kernels",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "optimum-onnx",
    "tokenizers",
    "torch",
    "transformers",
)


def check_place(out: Path, *, force: bool) -> None:
    """Looks whether an artifact may be written to a place, before any work is done.

    Raises:
        UsageError: something is there that must not be replaced.
    """
    if not out.parent.is_dir():
        raise UsageError(f"OUT is {out}; {out.parent} is not a folder")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"OUT is {out}; allowed: a folder, this is something else")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise UsageError(f"OUT is {out}; it holds other files than an artifact")
    if not force:
        raise UsageError(f"OUT is {out}; an artifact is there already, --force replaces it")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Gives a folder to write in, and moves it to its place when all went well.

    The folder lies beside the place, so that the move is one rename; whatever goes wrong before
    it leaves nothing behind.

    Raises:
        ArtifactError: a file could not be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            stage = Path(folder) / "artifact"
            stage.mkdir()
            yield stage
            for path in (*stage.iterdir(), stage):
                _sync(path)
            _move(stage, out)
            _sync(out.parent)
    except OSError as error:
        raise ArtifactError(f"{out}: not written: {error}") from error


def write_manifest(
    stage: Path, name: str, checkpoint: Checkpoint, certificate: Certificate
) -> dict[str, Any]:
    """Describes all files of a finished folder in its manifest.json.

    Returns:
        The manifest's content.
    """
    a = checkpoint.architecture
    inputs = graph.INPUTS if certificate.precision.kernels is None else kernel_graph.INPUTS
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "model_name": name,
        "architecture": "gpt2",
        "layers": a.layers,
        "heads": a.heads,
        "head_dim": a.head_dim,
        "width": a.width,
        "vocabulary_size": a.vocabulary_size,
        "context_length": a.context_length,
        "eos_token_ids": list(checkpoint.eos_token_ids),
        "precision": certificate.precision.name,
        "block_size": certificate.precision.block_size,
        "cache": certificate.precision.cache,
        "kernels": certificate.precision.kernels,
        "row_multiple": certificate.precision.row_multiple,
        "top_k": min(TOP_K, a.vocabulary_size),
        "graph": {
            "inputs": [*inputs, "past_key_values.{i}.key", "past_key_values.{i}.value"],
            "outputs": [*OUTPUTS, "present.{i}.key", "present.{i}.value"],
        },
        "minimum_onnxruntime": MINIMUM_ONNXRUNTIME,
        "files": {path.name: _describe(path) for path in sorted(stage.iterdir())},
        "source": _source(checkpoint),
        "tools": {"python": sys.version.split()[0]} | {tool: _version(tool) for tool in _TOOLS},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(stage / MANIFEST, manifest)
    return manifest


def write_json(path: Path, value: object) -> None:
    """Writes a value as JSON that other languages read too: no NaN, no infinity."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _describe(path: Path) -> dict[str, str | int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _source(checkpoint: Checkpoint) -> dict[str, Any]:
    """Hashes of the checkpoint's weights: of all in the order of their names, and of each."""
    whole = hashlib.sha256()
    for path in checkpoint.files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return {
        "sha256": whole.hexdigest(),
        "files": {path.name: _describe(path) for path in checkpoint.files},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _sync(path: Path) -> None:
    """Makes a file or a folder's list of names outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(stage: Path, out: Path) -> None:
    """Puts a folder in its place; what was there goes where the folder was."""
    if not out.exists() or not any(out.iterdir()):
        stage.rename(out)
    elif not _exchange(stage, out):
        aside = stage.with_name("replaced")
        out.rename(aside)
        try:
            stage.rename(out)
        except OSError:
            aside.rename(out)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step. False where the system has no such call."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
    with suppress(AttributeError, OSError):
        call = ctypes.CDLL(None).renameat2
        return bool(call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)
    return False
