"""The serving graph of nextok's own kernels: GPT-2 on one page.

Knows the operators of domain `nextok` (docs/kernels.md), and the names and shapes that
docs/artifact.md promises. Knows nothing of files, tokenizers or certificates.

Letters of shapes: T tokens of a step, whosever they are, R wanted ones, W width, S slots of the
cache, H heads, D size of a head, C capacity of a slot, V vocabulary, K candidates.
"""

from typing import Final

import numpy as np
import onnx_ir as ir

from nextok_export.activations import ACTIVATIONS
from nextok_export.calibration import CacheScales
from nextok_export.checkpoint import Checkpoint
from nextok_export.graph import OUTPUTS, TOP_K
from nextok_export.kernel_weights import KernelWeights
from nextok_export.precision import Precision
from nextok_export.quantize import FloatArray
from nextok_export.tape import NEXTOK, Graph

INPUTS: Final = ("input_ids", "position_ids", "slots", "logits_index", "inverse_temperature")
_IN_LAYERS: Final = "FastGelu"
"""The activation that the operator of all layers has."""


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
    layers = page.layers if page.is_fused else page.layers_apart
    logits = page.head(*layers(residual, slots, positions, wanted))  # [R, V]
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
        self._weights = KernelWeights(g, checkpoint, precision, cache_scales)
        self._weight_bits = precision.layer_bits or 32
        self._head_activation_bits = precision.head_activation_bits
        self._cache_kind = "Int8" if cache_scales else "Float32"
        self._cache_type = ir.DataType.INT8 if cache_scales else ir.DataType.FLOAT
        a = checkpoint.architecture
        self._cache_shape: list[int | str] = ["S", a.heads, "C", a.head_dim]
        self._presents: list[ir.Value] = []

    @property
    def is_fused(self) -> bool:
        """Whether one operator has all that the layers are made of."""
        activation = ACTIVATIONS[self._checkpoint.architecture.activation]
        return activation.operator == _IN_LAYERS

    def layers(
        self, residual: ir.Value, slots: ir.Value, positions: ir.Value, wanted: ir.Value
    ) -> tuple[ir.Value, ir.Value, str]:
        """All layers as one operator, [T, W] to the wanted rows.

        Returns:
            The residual stream and its last change [R, W], and the name of that one's bias.
        """
        a = self._checkpoint.architecture
        inputs: list[ir.Value] = []
        for i in range(a.layers):
            h = f"h.{i}"
            inputs += [
                *self._weights.norm(f"{h}.ln_1"),
                *self._weights.layer_matrix(f"{h}.attn.c_attn"),
                *self._weights.layer_matrix(f"{h}.attn.c_proj"),
                *self._weights.norm(f"{h}.ln_2"),
                *self._weights.layer_matrix(f"{h}.mlp.c_fc"),
                *self._weights.layer_matrix(f"{h}.mlp.c_proj"),
                *self._past(i),
                *self._weights.cache_steps(i),
            ]
        scales = self._g.weight("attention_scales", np.array(a.attention_scales, np.float32))
        stream, change, *presents = self._g.ops(
            2 + 2 * a.layers,
            f"Layers{self._cache_kind}",
            *(residual, slots, positions, wanted, scales, *inputs),
            domain=NEXTOK,
            layers=a.layers,
            width=a.width,
            inner=self._checkpoint.tensor("h.0.mlp.c_fc.weight").shape[1],
            weight_bits=self._weight_bits,
            epsilon=a.epsilon,
        )
        self._presents += presents
        return stream, change, f"h.{a.layers - 1}.mlp.c_proj.bias"

    def layers_apart(
        self, residual: ir.Value, slots: ir.Value, positions: ir.Value, wanted: ir.Value
    ) -> tuple[ir.Value, ir.Value, str]:
        """The same as an operator for each step, where one is needed that is ONNX Runtime's."""
        change, bias = None, None
        for i in range(self._checkpoint.architecture.layers):
            packed, residual = self.norm_linear(
                f"h.{i}.attn.c_attn", f"h.{i}.ln_1", residual, change, bias
            )
            attended = self.attention(i, packed, slots, positions)
            change, bias = self.linear(f"h.{i}.attn.c_proj", attended), f"h.{i}.attn.c_proj.bias"
            active, residual = self.mlp_input(i, residual, change, bias)
            change, bias = self.linear(f"h.{i}.mlp.c_proj", active), f"h.{i}.mlp.c_proj.bias"
        assert change is not None
        assert bias is not None
        return self._g.op("Gather", residual, wanted), self._g.op("Gather", change, wanted), bias

    def _past(self, i: int) -> list[ir.Value]:
        """Declares the caches of layer i before the step as inputs."""
        return [
            self._g.input(f"past_key_values.{i}.{part}", self._cache_type, self._cache_shape)
            for part in ("key", "value")
        ]

    def embedding(self, ids: ir.Value, positions: ir.Value) -> ir.Value:
        """Tokens and places [T] to vectors [T, W]; shares its table with a tied head."""
        kind, weights = self._weights.matrix(
            "wte", self._checkpoint.tensor("wte.weight"), vocabulary=True
        )
        a = self._checkpoint.architecture
        return self._g.op(
            f"Embedding{kind}",
            ids,
            positions,
            self._weights.tensor("wpe.weight"),
            *weights[:2],
            domain=NEXTOK,
            width=a.width,
            vocabulary=a.vocabulary_size,
        )

    def attention(self, i: int, packed: ir.Value, slots: ir.Value, positions: ir.Value) -> ir.Value:
        """Causal attention of layer i over its cache: [T, 3 * W] to [T, W]."""
        a = self._checkpoint.architecture
        attended, *present = self._g.ops(
            3,
            f"Attention{self._cache_kind}",
            *(packed, *self._past(i), slots, positions, *self._weights.cache_steps(i)),
            domain=NEXTOK,
            scale=a.attention_scales[i],
        )
        self._presents += present
        return attended

    def presents(self) -> None:
        """Declares the caches after the step as outputs."""
        for number, value in enumerate(self._presents):
            name = f"present.{number // 2}.{('key', 'value')[number % 2]}"
            self._g.output(name, value, self._cache_type, self._cache_shape)

    def mlp_input(
        self, i: int, residual: ir.Value, change: ir.Value, bias: str
    ) -> tuple[ir.Value, ir.Value]:
        """The first product of layer i's MLP with its activation, and the residual stream."""
        act = ACTIVATIONS[self._checkpoint.architecture.activation]
        inner, residual = self.norm_linear(f"h.{i}.mlp.c_fc", f"h.{i}.ln_2", residual, change, bias)
        return self._g.op(act.operator, inner, domain=act.domain, **act.attributes), residual

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
    ) -> tuple[ir.Value, ir.Value]:
        """A product of the normalized residual stream after a change, and that stream."""
        matrix, bias = (
            self._checkpoint.tensor(f"{name}.weight").T,
            self._weights.tensor(f"{name}.bias"),
        )
        rest = self._norm(norm, change, change_bias)
        product, total = self._linear(name, matrix, residual, bias, rest)
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
            *self._weights.norm(name),
            change,
            self._weights.tensor(change_bias) if change_bias else None,
        ]

    def _linear(
        self,
        name: str,
        matrix: FloatArray,
        x: ir.Value,
        bias: ir.Value | None,
        norm: list[ir.Value | None],
        *,
        vocabulary: bool = False,
    ) -> tuple[ir.Value, ir.Value]:
        """A product with a matrix [out, in], and the sum that the layer norm was taken of."""
        kind, weights = self._weights.matrix(name, matrix, vocabulary=vocabulary)
        missing = [None] * (3 - len(weights))
        product, total = self._g.ops(
            2,
            f"Linear{kind}",
            *(x, *weights, *missing, bias, *norm),
            domain=NEXTOK,
            in_features=matrix.shape[1],
            out_features=matrix.shape[0],
            gelu_tanh=0,
            activation_bits=self._head_activation_bits if vocabulary else 8,
            epsilon=self._checkpoint.architecture.epsilon,
        )
        return product, total
