"""Products with weights, and the table that embeds tokens: one class a way of storing them.

Knows the operators that read stored weights. Knows nothing of GPT-2.

Each class stores the weights of one part of a model. Weights come as [out, in], tables over the
vocabulary as [V, W]; shapes of activations are [..., in] and [..., out].
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import onnx_ir as ir

from nextok_export.quantize import Blocks, FloatArray, Rows, quantize, quantize_rows
from nextok_export.tape import MICROSOFT, Graph

_STEPS: Final = 127
"""Largest magnitude of an activation rounded to 8 bits."""


class Storage(Protocol):
    """A way of storing weights."""

    def linear(self, x: ir.Value, name: str, weight: FloatArray, bias: ir.Value | None) -> ir.Value:
        """`x @ weight.T + bias`."""
        ...

    def embedding(self, ids: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """The rows of a table [V, W] that ids [B, S] name: [B, S, W]."""
        ...

    def head(self, x: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """`x @ table.T`, sharing the table with the embedding of the same name."""
        ...


@dataclass
class FloatStorage:
    """float32, as it is."""

    g: Graph

    def linear(self, x: ir.Value, name: str, weight: FloatArray, bias: ir.Value | None) -> ir.Value:
        """A plain product."""
        product = self.g.op("MatMul", x, self.g.weight(f"{name}.weight", weight.T))
        return product if bias is None else self.g.op("Add", product, bias)

    def embedding(self, ids: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """A plain lookup."""
        return self.g.op("Gather", self.g.weight(f"{name}.weight", table), ids)

    def head(self, x: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """A product that reads the table as it lies."""
        return self.g.op("Gemm", x, self.g.weight(f"{name}.weight", table), transB=1)


@dataclass
class BlockStorage:
    """Blocks of 4 or 8 bits; activations are rounded to 8 bits in the same blocks.

    The kernels take rows of activations in pairs; a last odd one is rounded in another order.
    """

    g: Graph
    bits: int
    block_size: int
    _tables: dict[str, Blocks] = field(default_factory=dict)

    def linear(self, x: ir.Value, name: str, weight: FloatArray, bias: ir.Value | None) -> ir.Value:
        """One operator for all of it."""
        blocks = quantize(weight, bits=self.bits, block_size=self.block_size)
        return self._product(x, name, blocks, bias)

    def embedding(self, ids: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """A lookup that unpacks what it finds."""
        blocks, width = self._table(name, table), table.shape[1]
        padded = blocks.scales.shape[1] * blocks.block_size
        # The three axes are those that the head's product wants, so that both share the values.
        vectors = self.g.op(
            "GatherBlockQuantized",
            self.g.weight(f"{name}.values", blocks.values),
            ids,
            self.g.weight(f"{name}.scales_3d", blocks.scales[..., None]),
            domain=MICROSOFT,
            gather_axis=0,
            quantize_axis=2,
            block_size=blocks.block_size,
            bits=blocks.bits,
        )  # [B, S, blocks, block_size]
        flat = self.g.op("Reshape", vectors, self.g.integers(0, 0, padded))
        if padded == width:
            return flat
        start, end, axis = self.g.integers(0), self.g.integers(width), self.g.integers(2)
        return self.g.op("Slice", flat, start, end, axis)

    def head(self, x: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """The same operator as in the layers."""
        return self._product(x, name, self._table(name, table), None)

    def _table(self, name: str, table: FloatArray) -> Blocks:
        """Quantizes a table over the vocabulary, once if embedding and head share it."""
        if name not in self._tables:
            self._tables[name] = quantize(table, bits=self.bits, block_size=self.block_size)
        return self._tables[name]

    def _product(self, x: ir.Value, name: str, weight: Blocks, bias: ir.Value | None) -> ir.Value:
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


@dataclass
class RowStorage:
    """8 bits, one scale for all weights of an output; activations likewise, one scale a row.

    The sums are whole numbers, so no order of adding changes them: however many rows a product
    has, each comes out the same.
    """

    g: Graph
    _tables: dict[str, Rows] = field(default_factory=dict)

    def linear(self, x: ir.Value, name: str, weight: FloatArray, bias: ir.Value | None) -> ir.Value:
        """Rounds x row by row, multiplies whole numbers, and scales back."""
        rows = quantize_rows(weight)
        values = self.g.weight(f"{name}.values", rows.values.T)
        product = self._product(x, values, self.g.weight(f"{name}.scales", rows.scales))
        return product if bias is None else self.g.op("Add", product, bias)

    def embedding(self, ids: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """Looks up values and scales, and multiplies them."""
        rows = self._table(name, table)
        values = self.g.op("Gather", self.g.weight(f"{name}.values", rows.values), ids)
        scales = self.g.weight(f"{name}.scales_2d", rows.scales[:, None])
        as_float = self.g.op("Cast", values, to=int(ir.DataType.FLOAT))
        return self.g.op("Mul", as_float, self.g.op("Gather", scales, ids))

    def head(self, x: ir.Value, name: str, table: FloatArray) -> ir.Value:
        """The product of the layers; the table is turned round when the graph is loaded."""
        rows = self._table(name, table)
        values = self.g.op("Transpose", self.g.weight(f"{name}.values", rows.values), perm=(1, 0))
        return self._product(x, values, self.g.weight(f"{name}.scales", rows.scales))

    def _table(self, name: str, table: FloatArray) -> Rows:
        if name not in self._tables:
            self._tables[name] = quantize_rows(table)
        return self._tables[name]

    def _product(self, x: ir.Value, values: ir.Value, scales: ir.Value) -> ir.Value:
        """X [..., in] by values [in, out], int8, with scales [out].

        A row of zeros is divided by zero, but whatever its values are rounded to, they are
        multiplied by its largest magnitude in the end: zero.
        """
        g = self.g
        largest = g.op("ReduceMax", g.op("Abs", x), g.integers(-1), keepdims=1)
        step = g.weight("step", np.array(1 / _STEPS, np.float32))
        zero = g.weight("zero", np.array(128, np.uint8))
        rounded = g.op("QuantizeLinear", g.op("Div", x, largest), step, zero)
        product = g.op(
            "MatMulIntegerToFloat", rounded, values, step, scales, zero, domain=MICROSOFT
        )
        return g.op("Mul", product, largest)
