"""nextok's operators by themselves, outside of a model."""

from __future__ import annotations

import nextok_kernels
import numpy as np
import onnx_ir as ir
import onnxruntime

from nextok_export.packing import pack_bytes, pack_floats, pack_nibbles
from nextok_export.quantize import dequantize, quantize, quantize_rows


def stored(g, kind, matrix):
    """The matrix as the operator reads it, and as it is after rounding."""
    if kind == "Float32":
        return [g.weight("w", pack_floats(matrix)), None, None], matrix
    if kind == "Int8":
        rows = quantize_rows(matrix)
        names = ("w", "scales", "sums")
        weights = [g.weight(n, a) for n, a in zip(names, pack_bytes(rows), strict=True)]
        return weights, rows.values * rows.scales[:, None]
    blocks = quantize(matrix, bits=4, block_size=32)
    blocks.scales[:] = blocks.scales.astype(np.float16)
    return [g.weight("w", pack_nibbles(blocks)), None, None], dequantize(blocks)


def opened(g):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(nextok_kernels.library_path()))
    content = ir.to_proto(g.model("operator")).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
