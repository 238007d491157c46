"""A checkpoint's weights as nextok's operators read them.

Knows how they are packed (docs/kernels.md). Does not know what is computed with them.
"""

import onnx_ir as ir

from nextok_export.calibration import CacheScales
from nextok_export.checkpoint import Checkpoint
from nextok_export.packing import pack_bytes, pack_floats, pack_nibbles
from nextok_export.precision import GROUP, Precision
from nextok_export.quantize import FloatArray, quantize, quantize_rows
from nextok_export.tape import Graph


class KernelWeights:
    """The weights, each added to the graph when it is asked for, once."""

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
        self._cache_scales = cache_scales
        self._matrices: dict[str, tuple[str, list[ir.Value]]] = {}

    def tensor(self, name: str) -> ir.Value:
        """A tensor of the checkpoint, as it is."""
        return self._g.weight(name, self._checkpoint.tensor(name))

    def norm(self, name: str) -> list[ir.Value]:
        """Weight and bias of a layer norm."""
        return [self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")]

    def layer_matrix(self, name: str) -> list[ir.Value]:
        """A layer's matrix and its bias."""
        matrix = self._checkpoint.tensor(f"{name}.weight").T
        _, weights = self.matrix(name, matrix, vocabulary=False)
        return [*weights, self.tensor(f"{name}.bias")]

    def cache_steps(self, i: int) -> list[ir.Value]:
        """The steps of layer i's keys and values; none where the cache is not rounded."""
        if self._cache_scales is None:
            return []
        return [
            self._g.weight(f"h.{i}.attn.{part}_scale", scale)
            for part, scale in zip(("key", "value"), self._cache_scales[i], strict=True)
        ]

    def matrix(
        self, name: str, matrix: FloatArray, *, vocabulary: bool
    ) -> tuple[str, list[ir.Value]]:
        """A matrix [out, in] as the operators read it, and the end of their names."""
        if name not in self._matrices:
            bits = self._vocabulary_bits if vocabulary else self._layer_bits
            self._matrices[name] = self._store(name, matrix, bits)
        return self._matrices[name]

    def _store(self, name: str, matrix: FloatArray, bits: int | None) -> tuple[str, list[ir.Value]]:
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
