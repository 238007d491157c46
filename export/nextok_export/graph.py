"""The serving graph: GPT-2 on one page.

Knows the operators of ONNX Runtime that serve GPT-2, and the names and shapes that
docs/artifact.md promises. Knows nothing of files, tokenizers or certificates.

Letters of shapes: B rows, S columns of the longest chunk, R wanted positions, W width,
H heads, D size of a head, C capacity of the cache, V vocabulary, K candidates.
"""

from typing import Final

import numpy as np
import onnx_ir as ir

from nextok_export.activations import ACTIVATIONS
from nextok_export.calibration import CacheScales
from nextok_export.checkpoint import Checkpoint
from nextok_export.precision import Precision
from nextok_export.products import BlockStorage, FloatStorage, RowStorage, Storage
from nextok_export.tape import MICROSOFT, Graph

INPUTS: Final = (
    "input_ids",
    "position_ids",
    "query_seqlens",
    "seqlens_k",
    "total_sequence_length",
    "logits_index",
    "inverse_temperature",
)
OUTPUTS: Final = (
    "logprobs",
    "top_logprobs",
    "top_ids",
    "entropy",
    "logit_max",
    "temperature_mass",
)
TOP_K: Final = 64
MINIMUM_ONNXRUNTIME: Final = "1.32.0"
"""The first release whose GroupQueryAttention takes query_seqlens."""


def build(
    checkpoint: Checkpoint, precision: Precision, cache_scales: CacheScales | None = None
) -> ir.Model:
    """Writes the serving graph of a checkpoint.

    Args:
        checkpoint: sizes and weights.
        precision: how the weights are stored.
        cache_scales: steps of an int8 cache; None for a float32 one.

    Returns:
        The model, its weights inside.
    """
    a = checkpoint.architecture
    g = Graph()
    ids = g.input("input_ids", ir.DataType.INT64, ["B", "S"])
    positions = g.input("position_ids", ir.DataType.INT64, ["B", "S"])
    chunk = g.input("query_seqlens", ir.DataType.INT32, ["B"])
    held = g.input("seqlens_k", ir.DataType.INT32, ["B"])
    bound = g.input("total_sequence_length", ir.DataType.INT32, [])
    wanted = g.input("logits_index", ir.DataType.INT64, ["R"])
    inverse_temperature = g.input("inverse_temperature", ir.DataType.FLOAT, ["R", 1])

    page = _Page(g, checkpoint, precision, cache_scales)
    places = g.op("Gather", page.weight("wpe.weight"), positions)
    hidden, residual = page.layer_norm("h.0.ln_1", page.embedding(ids), places)
    for i in range(a.layers):
        attended = page.attention(i, hidden, held, bound, chunk)
        hidden, residual = page.layer_norm(
            f"h.{i}.ln_2", residual, attended, f"h.{i}.attn.c_proj.bias"
        )
        changed = page.mlp(i, hidden)
        following = f"h.{i + 1}.ln_1" if i + 1 < a.layers else "ln_f"
        hidden, residual = page.layer_norm(following, residual, changed, f"h.{i}.mlp.c_proj.bias")
    rows = g.op("Reshape", hidden, g.integers(-1, a.width))  # [B * S, W]
    logits = page.head(g.op("Gather", rows, wanted))  # [R, V]
    _probabilities(g, logits, inverse_temperature, a.vocabulary_size)
    page.presents()
    return g.model("gpt2")


def _probabilities(
    g: Graph, logits: ir.Value, inverse_temperature: ir.Value, vocabulary: int
) -> None:
    """Declares what is told of each wanted position, from logits [R, V].

    ONNX Runtime computes only what the outputs that are asked for depend on, so each is made
    from no more than it needs.
    """
    row, vocabulary_axis, k = ["R"], g.integers(-1), min(TOP_K, vocabulary)
    logprobs = g.op("LogSoftmax", logits, axis=-1)
    g.output("logprobs", logprobs, ir.DataType.FLOAT, ["R", vocabulary])

    top_logprobs, top_ids = g.ops(2, "TopK", logprobs, g.integers(k), axis=-1)
    g.output("top_logprobs", top_logprobs, ir.DataType.FLOAT, ["R", k])
    g.output("top_ids", top_ids, ir.DataType.INT64, ["R", k])

    # Summed by a product with -1s: ReduceSum would round by where a row begins in memory.
    terms = g.op("Mul", g.op("Softmax", logits, axis=-1), logprobs)
    minus = g.weight("minus_one", np.full((vocabulary, 1), -1, np.float32))
    entropy = g.op("Reshape", g.op("MatMul", terms, minus), g.integers(-1))
    g.output("entropy", entropy, ir.DataType.FLOAT, row)

    logit_max = g.op("ReduceMax", logits, vocabulary_axis, keepdims=0)
    g.output("logit_max", logit_max, ir.DataType.FLOAT, row)

    # The most likely token has exp(0) of the mass: the mass is one over its probability.
    shifted = g.op("Sub", logprobs, g.op("ReduceMax", logprobs, vocabulary_axis, keepdims=1))
    tempered = g.op("Softmax", g.op("Mul", shifted, inverse_temperature), axis=-1)
    mass = g.op("Reciprocal", g.op("ReduceMax", tempered, vocabulary_axis, keepdims=0))
    g.output("temperature_mass", mass, ir.DataType.FLOAT, row)


class _Page:
    """The parts of GPT-2, each appended to the graph with its weights."""

    def __init__(
        self,
        g: Graph,
        checkpoint: Checkpoint,
        precision: Precision,
        cache_scales: CacheScales | None,
    ) -> None:
        self._g = g
        self._checkpoint = checkpoint
        self._layers = _storage(g, precision.layer_bits, precision.block_size)
        self._vocabulary = _storage(g, precision.vocabulary_bits, precision.vocabulary_block_size)
        self._cache_scales = cache_scales
        self._cache_type = ir.DataType.INT8 if cache_scales else ir.DataType.FLOAT
        a = checkpoint.architecture
        self._cache_shape: list[int | str] = ["B", a.heads, "C", a.head_dim]
        self._presents: list[tuple[str, ir.Value]] = []

    def weight(self, name: str) -> ir.Value:
        """A tensor of the checkpoint, as it is."""
        return self._g.weight(name, self._checkpoint.tensor(name))

    def layer_norm(
        self, name: str, residual: ir.Value, change: ir.Value, bias: str | None = None
    ) -> tuple[ir.Value, ir.Value]:
        """Adds a change and its bias to the residual stream.

        Returns:
            The sum, normalized and as it is.
        """
        normalized, _, _, total = self._g.ops(
            4,
            "SkipLayerNormalization",
            residual,
            change,
            self.weight(f"{name}.weight"),
            self.weight(f"{name}.bias"),
            *((self.weight(bias),) if bias is not None else ()),
            domain=MICROSOFT,
            epsilon=self._checkpoint.architecture.epsilon,
        )
        return normalized, total

    def attention(
        self, i: int, hidden: ir.Value, held: ir.Value, bound: ir.Value, chunk: ir.Value
    ) -> ir.Value:
        """Causal attention of layer i over its cache, without the last bias.

        The first product gives query, key and value side by side, which GroupQueryAttention
        takes as they are. Shapes: [B, S, W] to [B, S, W].
        """
        a = self._checkpoint.architecture
        bias = self.weight(f"h.{i}.attn.c_attn.bias")
        packed = self._linear(f"h.{i}.attn.c_attn", hidden, bias)  # [B, S, 3 * W]
        past = [
            self._g.input(f"past_key_values.{i}.{part}", self._cache_type, self._cache_shape)
            for part in ("key", "value")
        ]
        scales, attributes = self._cache_quantization(i)
        unused: list[ir.Value | None] = [None] * 5
        attended, *present = self._g.ops(
            3,
            "GroupQueryAttention",
            *(packed, None, None, *past, held, bound, *unused, *scales, None, None, chunk),
            domain=MICROSOFT,
            num_heads=a.heads,
            kv_num_heads=a.heads,
            scale=a.attention_scales[i],
            **attributes,
        )
        self._presents += zip((f"present.{i}.key", f"present.{i}.value"), present, strict=True)
        return self._linear(f"h.{i}.attn.c_proj", attended)

    def _cache_quantization(
        self, i: int
    ) -> tuple[list[ir.Value | None], dict[str, int | float | str]]:
        """Scales of keys and values, and what tells the operator of them."""
        if self._cache_scales is None:
            return [None, None], {}
        scales: list[ir.Value | None] = [
            self._g.weight(f"h.{i}.attn.{part}_scale", scale)
            for part, scale in zip(("key", "value"), self._cache_scales[i], strict=True)
        ]
        kind = "PER_CHANNEL"
        return scales, {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": 8}

    def presents(self) -> None:
        """Declares the caches after the step as outputs."""
        for name, value in self._presents:
            self._g.output(name, value, self._cache_type, self._cache_shape)

    def mlp(self, i: int, hidden: ir.Value) -> ir.Value:
        """The two products of layer i, without the last bias: [B, S, W] to [B, S, W]."""
        act = ACTIVATIONS[self._checkpoint.architecture.activation]
        name, bias = f"h.{i}.mlp.c_fc", self.weight(f"h.{i}.mlp.c_fc.bias")
        if act.takes_bias:
            inner = [self._linear(name, hidden), bias]
        else:
            inner = [self._linear(name, hidden, bias)]
        active = self._g.op(act.operator, *inner, domain=act.domain, **act.attributes)
        return self._linear(f"h.{i}.mlp.c_proj", active)

    def embedding(self, ids: ir.Value) -> ir.Value:
        """Token ids [B, S] to vectors [B, S, W]."""
        return self._vocabulary.embedding(ids, "wte", self._checkpoint.tensor("wte.weight"))

    def head(self, x: ir.Value) -> ir.Value:
        """The wanted positions' vectors [R, W] to logits [R, V]."""
        name = "wte" if self._checkpoint.architecture.tied else "lm_head"
        return self._vocabulary.head(x, name, self._checkpoint.tensor(f"{name}.weight"))

    def _linear(self, name: str, x: ir.Value, bias: ir.Value | None = None) -> ir.Value:
        """A product; the checkpoint stores these weights as [in, out]."""
        return self._layers.linear(x, name, self._checkpoint.tensor(f"{name}.weight").T, bias)


def _storage(g: Graph, bits: int | None, block_size: int | None) -> Storage:
    if bits is None:
        return FloatStorage(g)
    return BlockStorage(g, bits, block_size) if block_size else RowStorage(g)
