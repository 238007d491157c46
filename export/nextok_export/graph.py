"""The serving graph: GPT-2 on one page.

Knows the operators of ONNX Runtime that serve GPT-2, and the names and shapes that
docs/artifact.md promises. Knows nothing of files, tokenizers or certificates.

Letters of shapes: B rows, S columns of the longest chunk, R wanted positions, W width,
H heads, D size of a head, C capacity of the cache, V vocabulary, K candidates.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from nextok_export.activations import ACTIVATIONS
from nextok_export.checkpoint import Checkpoint
from nextok_export.precision import Precision
from nextok_export.quantize import Blocks, FloatArray, quantize
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


def build(checkpoint: Checkpoint, precision: Precision) -> ir.Model:
    """Writes the serving graph of a checkpoint.

    Args:
        checkpoint: sizes and weights.
        precision: how the weights are stored.

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

    page = _Page(g, checkpoint, precision)
    places = g.op("Gather", page.weight("wpe.weight"), positions)
    hidden, residual = page.layer_norm("h.0.ln_1", page.embedding(ids), places)
    for i in range(a.layers):
        attended = page.attention(i, hidden, held, bound, chunk)
        hidden, residual = page.layer_norm(f"h.{i}.ln_2", residual, attended)
        changed = page.mlp(i, hidden)
        following = f"h.{i + 1}.ln_1" if i + 1 < a.layers else "ln_f"
        hidden, residual = page.layer_norm(following, residual, changed)
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


@dataclass
class _Page:
    """The parts of GPT-2, each appended to the graph with its weights."""

    g: Graph
    checkpoint: Checkpoint
    precision: Precision

    def __post_init__(self) -> None:
        self._tables: dict[str, Blocks] = {}
        self._presents: list[tuple[str, ir.Value]] = []
        self._cache_shape: list[int | str] = [
            "B",
            self.checkpoint.architecture.heads,
            "C",
            self.checkpoint.architecture.head_dim,
        ]

    def weight(self, name: str) -> ir.Value:
        """A tensor of the checkpoint, as it is."""
        return self.g.weight(name, self.checkpoint.tensor(name))

    def layer_norm(
        self, name: str, residual: ir.Value, change: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Adds a change to the residual stream. Returns the sum, normalized and as it is."""
        normalized, _, _, total = self.g.ops(
            4,
            "SkipLayerNormalization",
            residual,
            change,
            self.weight(f"{name}.weight"),
            self.weight(f"{name}.bias"),
            domain=MICROSOFT,
            epsilon=self.checkpoint.architecture.epsilon,
        )
        return normalized, total

    def attention(
        self, i: int, hidden: ir.Value, held: ir.Value, bound: ir.Value, chunk: ir.Value
    ) -> ir.Value:
        """Causal attention of layer i over its cache: [B, S, W] to [B, S, W].

        The first product gives query, key and value side by side, which GroupQueryAttention
        takes as they are.
        """
        a = self.checkpoint.architecture
        packed = self.linear(f"h.{i}.attn.c_attn", hidden)  # [B, S, 3 * W]
        past = [
            self.g.input(f"past_key_values.{i}.{part}", ir.DataType.FLOAT, self._cache_shape)
            for part in ("key", "value")
        ]
        unused: list[ir.Value | None] = [None] * 9
        attended, *present = self.g.ops(
            3,
            "GroupQueryAttention",
            *(packed, None, None, *past, held, bound, *unused, chunk),
            domain=MICROSOFT,
            num_heads=a.heads,
            kv_num_heads=a.heads,
            scale=a.attention_scales[i],
        )
        self._presents += zip((f"present.{i}.key", f"present.{i}.value"), present, strict=True)
        return self.linear(f"h.{i}.attn.c_proj", attended)

    def presents(self) -> None:
        """Declares the caches after the step as outputs."""
        for name, value in self._presents:
            self.g.output(name, value, ir.DataType.FLOAT, self._cache_shape)

    def mlp(self, i: int, hidden: ir.Value) -> ir.Value:
        """The two products of layer i with the activation between: [B, S, W] to [B, S, W]."""
        act = ACTIVATIONS[self.checkpoint.architecture.activation]
        inner = self.linear(f"h.{i}.mlp.c_fc", hidden)
        active = self.g.op(act.operator, inner, domain=act.domain, **act.attributes)
        return self.linear(f"h.{i}.mlp.c_proj", active)

    def linear(self, name: str, x: ir.Value) -> ir.Value:
        """`x @ weight + bias`; the checkpoint stores these weights as [in, out]."""
        bias = self.weight(f"{name}.bias")
        bits = self.precision.bits
        if bits is None:
            return self.g.op("Add", self.g.op("MatMul", x, self.weight(f"{name}.weight")), bias)
        weight = self.checkpoint.tensor(f"{name}.weight").T
        return self._product(x, name, self._quantize(weight, bits), bias)

    def embedding(self, ids: ir.Value) -> ir.Value:
        """Token ids [B, S] to vectors [B, S, W]."""
        width, bits = self.checkpoint.architecture.width, self.precision.vocabulary_bits
        if bits is None:
            return self.g.op("Gather", self.weight("wte.weight"), ids)
        blocks = self._table("wte", bits)
        padded = blocks.scales.shape[1] * blocks.block_size
        # The three axes are those that the head's product wants, so that both share the values.
        vectors = self.g.op(
            "GatherBlockQuantized",
            self.g.weight("wte.values", blocks.values),
            ids,
            self.g.weight("wte.scales_3d", blocks.scales[..., None]),
            domain=MICROSOFT,
            gather_axis=0,
            quantize_axis=2,
            block_size=blocks.block_size,
            bits=bits,
        )  # [B, S, blocks, block_size]
        flat = self.g.op("Reshape", vectors, self.g.integers(0, 0, padded))
        if padded == width:
            return flat
        start, end, axis = self.g.integers(0), self.g.integers(width), self.g.integers(2)
        return self.g.op("Slice", flat, start, end, axis)

    def head(self, x: ir.Value) -> ir.Value:
        """The wanted positions' vectors [R, W] to logits [R, V]."""
        name = "wte" if self.checkpoint.architecture.tied else "lm_head"
        bits = self.precision.vocabulary_bits
        if bits is None:
            return self.g.op("Gemm", x, self.weight(f"{name}.weight"), transB=1)
        return self._product(x, name, self._table(name, bits), None)

    def _table(self, name: str, bits: int) -> Blocks:
        """Quantizes a table over the vocabulary, once if embedding and head share it."""
        if name not in self._tables:
            self._tables[name] = self._quantize(self.checkpoint.tensor(f"{name}.weight"), bits)
        return self._tables[name]

    def _quantize(self, matrix: FloatArray, bits: int) -> Blocks:
        assert self.precision.block_size is not None
        return quantize(matrix, bits=bits, block_size=self.precision.block_size)

    def _product(self, x: ir.Value, name: str, weight: Blocks, bias: ir.Value | None) -> ir.Value:
        """`x @ weight.T + bias`, x rounded to int8 block by block on its way in."""
        return self.g.op(
            "MatMulNBits",
            x,
            self.g.weight(f"{name}.values", weight.values),
            self.g.weight(f"{name}.scales", weight.scales),
            *((None, None, bias) if bias is not None else ()),
            domain=MICROSOFT,
            K=weight.columns,
            N=weight.values.shape[0],
            bits=weight.bits,
            block_size=weight.block_size,
            accuracy_level=4,
        )
