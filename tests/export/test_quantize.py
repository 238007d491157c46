"""Blocks of few bits stand for the matrix that they were made from."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx_ir import DataType

from nextok_export.precision import Precision
from nextok_export.quantize import BLOCK_SIZES, dequantize, quantize
from nextok_export.tape import MICROSOFT, Graph, save

SHAPES = [(3, 64), (5, 100), (2, 7), (2500, 33)]


def matrix(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_weight_moves_by_more_than_its_block_allows(bits, block_size, shape):
    weights = matrix(shape)
    restored = dequantize(quantize(weights, bits=bits, block_size=block_size))
    assert restored.shape == shape
    for start in range(0, shape[1], block_size):
        block = weights[:, start : start + block_size].astype(np.float64)
        # Half a step, or a whole one where the far end of the range stops a step short.
        step = np.abs(block).max(axis=1, keepdims=True) / 2 ** (bits - 1)
        error = np.abs(block - restored[:, start : start + block_size])
        assert (error <= step * 1.0001).all()
        assert (error <= step * 0.5001).mean() > 0.85


@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_weight_of_a_block_is_kept(bits):
    weights = matrix((4, 64))
    restored = dequantize(quantize(weights, bits=bits, block_size=32))
    for row in range(4):
        for start in (0, 32):
            largest = start + np.abs(weights[row, start : start + 32]).argmax()
            assert restored[row, largest] == pytest.approx(weights[row, largest], rel=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros(bits):
    assert not dequantize(quantize(np.zeros((2, 40), np.float32), bits=bits, block_size=16)).any()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("columns", "block_size"), [(64, 32), (100, 32), (160, 128), (40, 64)])
def test_onnxruntime_reads_the_blocks_as_we_do(tmp_path, bits, columns, block_size):
    blocks = quantize(matrix((24, columns)), bits=bits, block_size=block_size)
    g = Graph()
    x = g.input("x", DataType.FLOAT, ["n", columns])
    product = g.op(
        "MatMulNBits",
        x,
        g.weight("values", blocks.values),
        g.weight("scales", blocks.scales),
        domain=MICROSOFT,
        K=columns,
        N=24,
        bits=bits,
        block_size=block_size,
        accuracy_level=1,
    )
    g.output("y", product, DataType.FLOAT, ["n", 24])
    save(g.model("product"), tmp_path / "product.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "product.onnx")
    inputs = matrix((6, columns))
    expected = inputs.astype(np.float64) @ dequantize(blocks).T.astype(np.float64)
    np.testing.assert_allclose(session.run(None, {"x": inputs})[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("fp32", 768, None),
        ("int8", 768, 64),
        ("int8", 320, 64),
        ("int8", 288, 32),
        ("int8", 160, 16),
        ("int4", 768, 32),
    ],
)
def test_blocks_are_as_large_as_the_precision_and_the_width_allow(name, width, expected):
    assert Precision.choose(name, width=width).block_size == expected
    if expected is not None:
        assert Precision.choose(name, 128, width=width).block_size == 128


@pytest.mark.parametrize(
    ("name", "width", "bits"), [("int8", 255, None), ("int8", 256, 8), ("int4", 255, 4)]
)
def test_int8_leaves_the_layers_of_a_narrow_model_in_float32(name, width, bits):
    precision = Precision.choose(name, width=width)
    assert (precision.bits, precision.vocabulary_bits) == (bits, 8)
    assert precision.approximate
