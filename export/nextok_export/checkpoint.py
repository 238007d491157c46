"""A Hugging Face GPT-2 checkpoint on disk: what it is, and its weights.

Knows config.json and safetensors files, and refuses by name whatever the serving graph has no
form for. Knows nothing of ONNX. Never unpickles, never runs code from a checkpoint.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from nextok_export.architecture import Architecture, read_architecture
from nextok_export.errors import UnsupportedModelError
from nextok_export.quantize import FloatArray

_FLOATS: Final = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole and supported.

    Attributes:
        folder: where it lies.
        architecture: its sizes and variants.
        eos_token_ids: tokens that end a text.
        files: its weights files, in the order of their names.
        tensors: for each tensor, by its name without `transformer.`: its file and its name there.
    """

    folder: Path
    architecture: Architecture
    eos_token_ids: tuple[int, ...]
    files: tuple[Path, ...]
    tensors: dict[str, tuple[Path, str]]

    def tensor(self, name: str) -> FloatArray:
        """Reads a tensor as float32, by its name without the `transformer.` prefix."""
        path, stored = self.tensors[name]
        with safe_open(path, framework="pt") as file:
            array: FloatArray = file.get_tensor(stored).float().numpy()
        return array


def open_checkpoint(folder: Path) -> Checkpoint:
    """Looks at a checkpoint without reading its weights.

    Args:
        folder: holds config.json and safetensors files.

    Raises:
        UnsupportedModelError: names what is missing or has no form in the serving graph.
    """
    config = _json(folder / "config.json")
    architecture = read_architecture(config, folder)
    files = _weights_files(folder)
    tensors: dict[str, tuple[Path, str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118 - not a mapping
                    header = file.get_slice(stored)
                    name = stored.removeprefix("transformer.")
                    tensors[name] = (path, stored)
                    shapes[name] = tuple(header.get_shape())
                    _check_type(stored, header.get_dtype())
        except SafetensorError as error:
            raise UnsupportedModelError(f"{path}: not a safetensors file: {error}") from error
    for name, shape in architecture.tensor_shapes().items():
        if name not in shapes:
            raise UnsupportedModelError(f"{folder}: the weights have no tensor {name!r}")
        if shapes[name] != shape:
            raise UnsupportedModelError(
                f"{folder}: tensor {name!r} has shape {list(shapes[name])}, "
                f"config.json makes it {list(shape)}"
            )
    ends = _eos_token_ids(config, folder / "generation_config.json", architecture)
    return Checkpoint(folder, architecture, ends, files, tensors)


def _eos_token_ids(
    config: dict[str, Any], generation: Path, architecture: Architecture
) -> tuple[int, ...]:
    """Tokens that end a text: generation_config.json's word goes before config.json's.

    Ids past the vocabulary are left out: GPT2Config's default outlives a smaller vocabulary.
    """
    found = config.get("eos_token_id", 50256)
    if generation.is_file():
        found = _json(generation).get("eos_token_id", found)
    ids = found if isinstance(found, list) else [found]
    return tuple(i for i in ids if isinstance(i, int) and 0 <= i < architecture.vocabulary_size)


def _check_type(name: str, dtype: str) -> None:
    if dtype not in _FLOATS and not name.endswith((".attn.bias", ".attn.masked_bias")):
        raise UnsupportedModelError(
            f"tensor {name!r} is stored as {dtype}; supported: {', '.join(_FLOATS)}"
        )


def _weights_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that make up the weights."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,)
    if index.is_file():
        listed = _json(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise UnsupportedModelError(f"{index}: no weight_map")
        names = sorted({str(name) for name in listed.values()})
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise UnsupportedModelError(f"{index}: weights file {name!r} is not there")
        return tuple(folder / name for name in names)
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    found = (
        f"; {', '.join(pickled)} would have to be unpickled, which may run code" if pickled else ""
    )
    raise UnsupportedModelError(f"{folder}: no model.safetensors{found}")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedModelError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnsupportedModelError(f"{path}: not a JSON object")
    return value
