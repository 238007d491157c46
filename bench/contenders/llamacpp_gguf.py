"""A GPT-2 checkpoint as GGUF files: written with `gguf`, quantized by llama.cpp itself."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
from safetensors.numpy import load_file

from bench.worker import SETTINGS

TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")  # Conv1D: [in, out]
IGNORED = (".attn.bias", ".attn.masked_bias")  # masks that old checkpoints carry


def prepare(checkpoint: Path, folder: Path, settings: SETTINGS) -> None:
    """Writes the F32 file, if it is not there yet, and quantizes it to the type wanted."""
    source = folder / "F32.gguf"
    if not source.exists():
        _write(checkpoint, source)
    if settings["type"] == "F32":
        return
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{settings['type']}")
    target = str(weights(folder, settings)).encode()
    if llama_cpp.llama_model_quantize(str(source).encode(), target, ctypes.byref(params)):
        raise RuntimeError(f"llama_model_quantize to {settings['type']} failed")


def weights(folder: Path, settings: SETTINGS) -> Path:
    """The file whose bytes every step reads."""
    return folder / f"{settings['type']}.gguf"


def _write(checkpoint: Path, target: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, checkpoint, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config["n_layer"])
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        if name.endswith(IGNORED):
            continue
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            raise ValueError(f"GGUF has no name for {name}")
        rows = tensor.T.copy() if name.endswith(TRANSPOSED) else tensor
        writer.add_tensor(mapped, rows.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, checkpoint: Path, config: dict[str, Any]) -> None:
    ids = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))
    merges = (checkpoint / "merges.txt").read_text(encoding="utf-8").splitlines()
    end = config["eos_token_id"]
    kinds = {end: gguf.TokenType.CONTROL}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(ids, key=ids.__getitem__))
    writer.add_token_types([kinds.get(i, gguf.TokenType.NORMAL) for i in range(len(ids))])
    writer.add_token_merges([line for line in merges[1:] if line])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
