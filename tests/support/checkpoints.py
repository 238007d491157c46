"""Tiny random GPT-2 checkpoints, and artifacts made from them, for tests of any part.

    python tests/support/checkpoints.py OUT

makes what all tests share. Named by NEXTOK_TEST_MODEL, it spares them torch, which is not to be had
for every Python that client and server run on; tests that need it themselves are skipped then.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

TOKENIZER = Path(__file__).parents[2] / "export" / "nextok_export" / "demo"
FULL_VOCABULARY = 50257
END_OF_TEXT = "<|endoftext|>"
PRECISIONS = ("fp32", "int8", "int4")
_NAMED = os.environ.get("NEXTOK_TEST_MODEL")
READY_MADE = Path(_NAMED).resolve() if _NAMED else None


def shared_checkpoint(folder: Path) -> Path:
    """A checkpoint of 2 layers with GPT-2's vocabulary and a context of 128.

    Wide enough for the export to round activations at int8 and int4, as it does for real ones.
    """
    return make_checkpoint(folder, width=256, heads=4)


def make_checkpoint(
    folder: Path,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 2,
    vocabulary: int = FULL_VOCABULARY,
    context: int = 128,
    seed: int = 0,
    prefix: str = "transformer.",
    spread: float = 3.0,
    **config: Any,
) -> Path:
    """Writes a checkpoint folder as Hugging Face does: config.json, safetensors, tokenizer.

    Args:
        folder: where to write; made if it is not there.
        vocabulary: 50257 takes GPT-2's tokenizer whole; fewer (from 257 on) take its first merges,
            so that ids mean the same as far as they reach.
        prefix: what stands before the names of tensors.
        spread: standard deviation of the logits; the larger, the more certain the model.
        config: further keys of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "n_layer": layers,
        "n_embd": width,
        "n_head": heads,
        "n_positions": context,
        "vocab_size": vocabulary,
        "bos_token_id": vocabulary - 1,
        "eos_token_id": vocabulary - 1,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    tensors = random_weights(values, seed=seed, spread=spread)
    named = {
        name if name.startswith("lm_head") else prefix + name: tensor
        for name, tensor in tensors.items()
    }
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    write_tokenizer(folder, vocabulary)
    return folder


def random_weights(
    config: dict[str, Any], *, seed: int, spread: float
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Tensors by their names without prefix; every one of them, biases too, is random."""
    random = np.random.default_rng(seed)
    width, vocabulary = config["n_embd"], config["vocab_size"]
    inner = config.get("n_inner") or 4 * width

    def normal(*shape: int, scale: float, mean: float = 0.0) -> Any:
        return (mean + scale * random.standard_normal(shape)).astype(np.float32)

    tensors = {
        "wte.weight": normal(vocabulary, width, scale=spread / width**0.5),
        "wpe.weight": normal(config["n_positions"], width, scale=0.3),
        "ln_f.weight": normal(width, scale=0.1, mean=1.0),
        "ln_f.bias": normal(width, scale=0.1),
    }
    for i in range(config["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            tensors[f"h.{i}.{norm}.weight"] = normal(width, scale=0.1, mean=1.0)
            tensors[f"h.{i}.{norm}.bias"] = normal(width, scale=0.1)
        for name, rows, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            tensors[f"h.{i}.{name}.weight"] = normal(rows, columns, scale=1.0 / rows**0.5)
            tensors[f"h.{i}.{name}.bias"] = normal(columns, scale=0.1)
    if config.get("tie_word_embeddings") is False:
        tensors["lm_head.weight"] = normal(vocabulary, width, scale=spread / width**0.5)
    return tensors


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """GPT-2's tokenizer, cut to its first merges where the vocabulary is smaller."""
    if vocabulary == FULL_VOCABULARY:
        for name in ("vocab.json", "merges.txt"):
            shutil.copyfile(TOKENIZER / name, folder / name)
    else:
        ids = json.loads((TOKENIZER / "vocab.json").read_text(encoding="utf-8"))
        kept = {token: i for token, i in ids.items() if i < vocabulary - 1}
        kept[END_OF_TEXT] = vocabulary - 1
        (folder / "vocab.json").write_text(json.dumps(kept), encoding="utf-8")
        version, *merges = (TOKENIZER / "merges.txt").read_text(encoding="utf-8").splitlines()
        first = [version, *merges[: vocabulary - 257]]
        (folder / "merges.txt").write_text("\n".join(first) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def export_artifact(
    checkpoint: Path, out: Path, precision: str = "fp32", *, positions: int = 64, **options: Any
) -> Path:
    """Exports a checkpoint in this process, with a small certificate. Returns `out`."""
    need_torch()
    from nextok_export import export

    return export(checkpoint, out, precision=precision, positions=positions, **options).folder


def need_torch() -> None:
    """Skips a test where the shared model was made elsewhere."""
    if READY_MADE:
        pytest.skip("needs torch: the model was made elsewhere")


if __name__ == "__main__":
    made = Path(sys.argv[1])
    for each in PRECISIONS:
        export_artifact(shared_checkpoint(made / "checkpoint"), made / each, each)
