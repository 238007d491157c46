"""What config.json says of a GPT-2: its sizes, and which of its variants it is.

Knows the keys of a Hugging Face GPT2Config and which values the serving graph has a form for.
Knows nothing of weights or of ONNX.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nextok_export.activations import ACTIVATIONS
from nextok_export.errors import UnsupportedModelError

HEAD_DIM_MULTIPLE: Final = 8
"""GroupQueryAttention's kernel takes heads whose size is a multiple of this."""


@dataclass(frozen=True)
class Architecture:
    """Sizes and variants of a GPT-2.

    Attributes:
        layers: number of blocks.
        heads: attention heads of a block.
        width: size of the residual stream.
        inner: size between the two products of an MLP.
        vocabulary_size: tokens.
        context_length: positions.
        activation: name of the MLP's activation, as in config.json.
        epsilon: what layer norms add to the variance.
        attention_scales: for each layer, the factor of query-key products.
        tied: whether the head is the embedding transposed.
    """

    layers: int
    heads: int
    width: int
    inner: int
    vocabulary_size: int
    context_length: int
    activation: str
    epsilon: float
    attention_scales: tuple[float, ...]
    tied: bool

    @property
    def head_dim(self) -> int:
        """Size of a head."""
        return self.width // self.heads

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the graph needs, by its name without `transformer.`, with its shape."""
        w, inner = self.width, self.inner
        shapes: dict[str, tuple[int, ...]] = {
            "wte.weight": (self.vocabulary_size, w),
            "wpe.weight": (self.context_length, w),
            "ln_f.weight": (w,),
            "ln_f.bias": (w,),
        }
        for i in range(self.layers):
            shapes |= {
                f"h.{i}.{norm}.{part}": (w,)
                for norm in ("ln_1", "ln_2")
                for part in ("weight", "bias")
            }
            for name, rows, columns in (
                ("attn.c_attn", w, 3 * w),
                ("attn.c_proj", w, w),
                ("mlp.c_fc", w, inner),
                ("mlp.c_proj", inner, w),
            ):
                shapes[f"h.{i}.{name}.weight"] = (rows, columns)
                shapes[f"h.{i}.{name}.bias"] = (columns,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary_size, w)
        return shapes


def read_architecture(config: Mapping[str, Any], folder: Path) -> Architecture:
    """Reads config.json.

    Args:
        config: its content; keys that are absent have the values that GPT2Config gives them.
        folder: where it lies, for messages.

    Raises:
        UnsupportedModelError: names the key, its value, and what is supported.
    """
    read = _Config(config, folder)
    read.expect("model_type", None, ("gpt2",))
    read.expect_architecture()
    read.expect("add_cross_attention", False, (False,))
    read.expect("reorder_and_upcast_attn", False, (False, True))
    if "quantization_config" in config:
        read.refuse("quantization_config", config["quantization_config"], "absent")
    layers, heads, width = (
        read.size("n_layer", 12),
        read.size("n_head", 12),
        read.size("n_embd", 768),
    )
    if width % heads or width // heads % HEAD_DIM_MULTIPLE:
        read.refuse(
            "n_head", heads, f"n_embd / n_head a multiple of {HEAD_DIM_MULTIPLE}; n_embd is {width}"
        )
    scale = 1 / math.sqrt(width // heads) if read.flag("scale_attn_weights", True) else 1.0
    by_layer = read.flag("scale_attn_by_inverse_layer_idx", False)
    vocabulary = read.size("vocab_size", 50257)
    return Architecture(
        layers=layers,
        heads=heads,
        width=width,
        inner=4 * width if config.get("n_inner") is None else read.size("n_inner", 0),
        vocabulary_size=vocabulary,
        context_length=read.size("n_positions", 1024),
        activation=read.expect("activation_function", "gelu_new", tuple(ACTIVATIONS)),
        epsilon=read.positive("layer_norm_epsilon", 1e-5),
        attention_scales=tuple(scale / (i + 1 if by_layer else 1) for i in range(layers)),
        tied=read.flag("tie_word_embeddings", True),
    )


@dataclass(frozen=True)
class _Config:
    """config.json with checks that name the key."""

    values: Mapping[str, Any]
    folder: Path

    def refuse(self, key: str, value: object, allowed: str) -> None:
        """Says which key cannot be served, and what could be."""
        raise UnsupportedModelError(
            f"{self.folder / 'config.json'}: {key} is {value!r}; supported: {allowed}"
        )

    def expect(self, key: str, default: object, allowed: tuple[Any, ...]) -> Any:
        """One of a few values."""
        value = self.values.get(key, default)
        if value not in allowed:
            self.refuse(key, value, ", ".join(map(repr, allowed)))
        return value

    def expect_architecture(self) -> None:
        """The language model, where the checkpoint says which class it is."""
        names = self.values.get("architectures")
        if names and "GPT2LMHeadModel" not in names:
            self.refuse("architectures", names, "'GPT2LMHeadModel'")

    def size(self, key: str, default: int) -> int:
        """A positive integer."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(key, value, "an integer of at least 1")
        return int(value)

    def positive(self, key: str, default: float) -> float:
        """A finite number above 0."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            self.refuse(key, value, "a finite number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self.expect(key, default, (False, True)))
