"""Makes a GPT-2 checkpoint with random weights, for measurements that need a model's size.

    python bench/random_gpt2.py OUT [--seed N] [--layers N] [--width N] [--heads N] [--context N]

The default is GPT-2's 124M shape with its real vocabulary and tokenizer. The weights are scaled
so that the distributions are neither flat nor certain: the entropy is some 4 nats, as a trained
model's is, and float32, int8 and int4 differ visibly.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TOKENIZER = Path(__file__).parents[1] / "export" / "nextok_export" / "demo"
VOCABULARY = 50257


def main() -> None:
    """Reads the options and writes the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--context", type=int, default=1024)
    options = parser.parse_args()
    write(options.out, options.seed, options.layers, options.width, options.heads, options.context)
    weights = (options.out / "model.safetensors").stat().st_size
    print(f"{options.out}: {weights / 1e6:.0f} MB of weights, seed {options.seed}")


def write(out: Path, seed: int, layers: int, width: int, heads: int, context: int) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files."""
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "n_layer": layers,
        "n_embd": width,
        "n_head": heads,
        "n_positions": context,
        "vocab_size": VOCABULARY,
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": VOCABULARY - 1,
        "eos_token_id": VOCABULARY - 1,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(weights(seed, layers, width, context), out / "model.safetensors", {"format": "pt"})
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(TOKENIZER / name, out / name)


def weights(seed: int, layers: int, width: int, context: int) -> dict[str, np.ndarray]:
    """Tensors by their Hugging Face names; products are [in, out]."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    # Logits are sums of `width` products of a normalized state and an embedding: their spread is
    # the embedding's scale times the root of the width.
    tensors = {
        "transformer.wte.weight": normal(VOCABULARY, width, scale=3.5 / width**0.5),
        "transformer.wpe.weight": normal(context, width, scale=0.5 / width**0.5),
        "transformer.ln_f.weight": np.ones(width, np.float32),
        "transformer.ln_f.bias": normal(width, scale=0.05),
    }
    for i in range(layers):
        block = f"transformer.h.{i}"
        for norm in ("ln_1", "ln_2"):
            tensors[f"{block}.{norm}.weight"] = np.ones(width, np.float32)
            tensors[f"{block}.{norm}.bias"] = normal(width, scale=0.05)
        for name, rows, columns, gain in (
            ("attn.c_attn", width, 3 * width, 1.5),
            ("attn.c_proj", width, width, 0.5),
            ("mlp.c_fc", width, 4 * width, 1.0),
            ("mlp.c_proj", 4 * width, width, 0.5),
        ):
            tensors[f"{block}.{name}.weight"] = normal(rows, columns, scale=gain / rows**0.5)
            tensors[f"{block}.{name}.bias"] = normal(columns, scale=0.02)
    return tensors


if __name__ == "__main__":
    main()
