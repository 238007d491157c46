"""The serving graph of nextok's own kernels: GPT-2 on one page.

Knows the operators of domain `nextok` (docs/kernels.md), and the names and shapes that
docs/artifact.md promises. Knows nothing of files, tokenizers or certificates.

Letters of shapes: T tokens of a step, whosever they are, R wanted ones, W width, S slots of the
cache, H heads, D size of a head, C capacity of a slot, V vocabulary, K candidates.
"""

from typing import Final

import onnx_ir as ir

from nextok_export.activations import ACTIVATIONS
from nextok_export.calibration import CacheScales
from nextok_export.checkpoint import Checkpoint
from nextok_export.graph import OUTPUTS, TOP_K
from nextok_export.packing import pack_bytes, pack_floats, pack_nibbles
from nextok_export.precision import GROUP, Precision
from nextok_export.quantize import FloatArray, quantize, quantize_rows
from nextok_export.tape import NEXTOK, Graph

INPUTS: Final = ("input_ids", "position_ids", "slots", "logits_index", "inverse_temperature")
_TANH_GELU: Final = "FastGelu"


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
    ids = g.input("input_ids", ir.DataType.INT64, ["T"])
    positions = g.input("position_ids", ir.DataType.INT64, ["T"])
    slots = g.input("slots", ir.DataType.INT32, ["T"])
    wanted = g.input("logits_index", ir.DataType.INT64, ["R"])
    inverse_temperature = g.input("inverse_temperature", ir.DataType.FLOAT, ["R", 1])

    page = _Page(g, checkpoint, precision, cache_scales)
    residual = page.embedding(ids, positions)
    change, bias = None, None
    for i in range(a.layers):
        packed, residual = page.norm_linear(
            f"h.{i}.attn.c_attn", f"h.{i}.ln_1", residual, change, bias
        )
        attended = page.attention(i, packed, slots, positions)
        change, bias = page.linear(f"h.{i}.attn.c_proj", attended), f"h.{i}.attn.c_proj.bias"
        active, residual = page.mlp_input(i, residual, change, bias)
        change, bias = page.linear(f"h.{i}.mlp.c_proj", active), f"h.{i}.mlp.c_proj.bias"
    last = g.op("Gather", residual, wanted)
    last_change = g.op("Gather", change, wanted)
    logits = page.head(last, last_change, bias)  # [R, V]
    _probabilities(g, logits, inverse_temperature, a.vocabulary_size)
    page.presents()
    return g.model("gpt2")


def _probabilities(
    g: Graph, logits: ir.Value, inverse_temperature: ir.Value, vocabulary: int
) -> None:
    """Declares what is told of each wanted position, from logits [R, V]."""
    k = min(TOP_K, vocabulary)
    shapes: list[list[int | str]] = [["R", vocabulary], ["R", k], ["R", k], ["R"], ["R"], ["R"]]
    values = g.ops(
        len(OUTPUTS), "Probabilities", logits, inverse_temperature, domain=NEXTOK, candidates=k
    )
    for name, value, shape in zip(OUTPUTS, values, shapes, strict=True):
        g.output(name, value, ir.DataType.INT64 if name == "top_ids" else ir.DataType.FLOAT, shape)


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
        self._layer_bits = precision.layer_bits
        self._vocabulary_bits = precision.vocabulary_bits
        self._head_activation_bits = precision.head_activation_bits
        self._cache_scales = cache_scales
        self._cache_type = ir.DataType.INT8 if cache_scales else ir.DataType.FLOAT
        a = checkpoint.architecture
        self._cache_shape: list[int | str] = ["S", a.heads, "C", a.head_dim]
        self._presents: list[tuple[str, ir.Value]] = []
        self._matrices: dict[str, tuple[str, list[ir.Value | None]]] = {}

    def weight(self, name: str) -> ir.Value:
        """A tensor of the checkpoint, as it is."""
        return self._g.weight(name, self._checkpoint.tensor(name))

    def embedding(self, ids: ir.Value, positions: ir.Value) -> ir.Value:
        """Tokens and places [T] to vectors [T, W]; shares its table with a tied head."""
        kind, weights = self._stored("wte", self._checkpoint.tensor("wte.weight"), vocabulary=True)
        a = self._checkpoint.architecture
        return self._g.op(
            f"Embedding{kind}",
            ids,
            positions,
            self.weight("wpe.weight"),
            *weights[:2],
            domain=NEXTOK,
            width=a.width,
            vocabulary=a.vocabulary_size,
        )

    def attention(self, i: int, packed: ir.Value, slots: ir.Value, positions: ir.Value) -> ir.Value:
        """Causal attention of layer i over its cache: [T, 3 * W] to [T, W]."""
        a = self._checkpoint.architecture
        past = [
            self._g.input(f"past_key_values.{i}.{part}", self._cache_type, self._cache_shape)
            for part in ("key", "value")
        ]
        kind, scales = "Float32", []
        if self._cache_scales is not None:
            kind = "Int8"
            scales = [
                self._g.weight(f"h.{i}.attn.{part}_scale", scale)
                for part, scale in zip(("key", "value"), self._cache_scales[i], strict=True)
            ]
        attended, *present = self._g.ops(
            3,
            f"Attention{kind}",
            *(packed, *past, slots, positions, *scales),
            domain=NEXTOK,
            scale=a.attention_scales[i],
        )
        self._presents += zip((f"present.{i}.key", f"present.{i}.value"), present, strict=True)
        return attended

    def presents(self) -> None:
        """Declares the caches after the step as outputs."""
        for name, value in self._presents:
            self._g.output(name, value, self._cache_type, self._cache_shape)

    def mlp_input(
        self, i: int, residual: ir.Value, change: ir.Value, bias: str
    ) -> tuple[ir.Value, ir.Value]:
        """The first product of layer i's MLP with its activation, and the residual stream."""
        act = ACTIVATIONS[self._checkpoint.architecture.activation]
        fused = act.operator == _TANH_GELU
        inner, residual = self.norm_linear(
            f"h.{i}.mlp.c_fc", f"h.{i}.ln_2", residual, change, bias, gelu_tanh=fused
        )
        if not fused:
            inner = self._g.op(act.operator, inner, domain=act.domain, **act.attributes)
        return inner, residual

    def linear(self, name: str, x: ir.Value) -> ir.Value:
        """A product without its bias, which the next layer norm adds."""
        matrix = self._checkpoint.tensor(f"{name}.weight").T
        return self._linear(name, matrix, x, None, [])[0]

    def norm_linear(
        self,
        name: str,
        norm: str,
        residual: ir.Value,
        change: ir.Value | None,
        change_bias: str | None,
        *,
        gelu_tanh: bool = False,
    ) -> tuple[ir.Value, ir.Value]:
        """A product of the normalized residual stream after a change, and that stream."""
        matrix, bias = self._checkpoint.tensor(f"{name}.weight").T, self.weight(f"{name}.bias")
        rest = self._norm(norm, change, change_bias)
        product, total = self._linear(name, matrix, residual, bias, rest, gelu_tanh=gelu_tanh)
        return product, total

    def head(self, residual: ir.Value, change: ir.Value, change_bias: str | None) -> ir.Value:
        """The wanted rows of the residual stream and of its last change to logits [R, V]."""
        name = "wte" if self._checkpoint.architecture.tied else "lm_head"
        table = self._checkpoint.tensor(f"{name}.weight")
        rest = self._norm("ln_f", change, change_bias)
        return self._linear(name, table, residual, None, rest, vocabulary=True)[0]

    def _norm(
        self, name: str, change: ir.Value | None, change_bias: str | None
    ) -> list[ir.Value | None]:
        return [
            self.weight(f"{name}.weight"),
            self.weight(f"{name}.bias"),
            change,
            self.weight(change_bias) if change_bias else None,
        ]

    def _linear(
        self,
        name: str,
        matrix: FloatArray,
        x: ir.Value,
        bias: ir.Value | None,
        norm: list[ir.Value | None],
        *,
        gelu_tanh: bool = False,
        vocabulary: bool = False,
    ) -> tuple[ir.Value, ir.Value]:
        """A product with a matrix [out, in], and the sum that the layer norm was taken of."""
        kind, weights = self._stored(name, matrix, vocabulary=vocabulary)
        weights += [None] * (3 - len(weights))
        product, total = self._g.ops(
            2,
            f"Linear{kind}",
            *(x, *weights, bias, *norm),
            domain=NEXTOK,
            in_features=matrix.shape[1],
            out_features=matrix.shape[0],
            gelu_tanh=int(gelu_tanh),
            activation_bits=self._head_activation_bits if vocabulary else 8,
            epsilon=self._checkpoint.architecture.epsilon,
        )
        return product, total

    def _stored(
        self, name: str, matrix: FloatArray, *, vocabulary: bool
    ) -> tuple[str, list[ir.Value | None]]:
        """A matrix [out, in] as the kernels read it, and the end of their names."""
        if name not in self._matrices:
            bits = self._vocabulary_bits if vocabulary else self._layer_bits
            self._matrices[name] = self._store(name, matrix, bits)
        kind, weights = self._matrices[name]
        return kind, [*weights]

    def _store(
        self, name: str, matrix: FloatArray, bits: int | None
    ) -> tuple[str, list[ir.Value | None]]:
        weight = self._g.weight
        if bits is None:
            return "Float32", [weight(f"{name}.packed", pack_floats(matrix))]
        if bits == 4:
            blocks = quantize(matrix, bits=4, block_size=GROUP)
            return "Int4", [weight(f"{name}.packed", pack_nibbles(blocks))]
        values, scales, sums = pack_bytes(quantize_rows(matrix))
        return "Int8", [
            weight(f"{name}.packed", values),
            weight(f"{name}.scales", scales),
            weight(f"{name}.sums", sums),
        ]
