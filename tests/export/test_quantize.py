"""Blocks of few bits stand for the matrix that they were made from."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx_ir import DataType

from nextok_export.precision import Precision
from nextok_export.products import RowStorage
from nextok_export.quantize import BLOCK_SIZES, dequantize, quantize, quantize_rows
from nextok_export.tape import MICROSOFT, Graph, save
from nextok_server.processor import sums_bytes_exactly

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


def test_no_weight_moves_by_more_than_half_a_step_of_its_row():
    weights = matrix((37, 90))
    weights[5] = 0
    rows = quantize_rows(weights)
    steps = np.abs(weights).max(axis=1, keepdims=True) / 127
    restored = rows.values * rows.scales[:, None].astype(np.float64)
    assert (np.abs(restored - weights) <= steps * 0.5001).all()
    assert rows.values.min() >= -127


@pytest.mark.parametrize(
    "precise",
    [
        pytest.param(
            "0", marks=pytest.mark.skipif(not sums_bytes_exactly(), reason="needs VNNI or alike")
        ),
        "1",
    ],
)
def test_a_product_with_rows_is_the_one_of_whole_numbers(tmp_path, precise):
    """Also without VNNI, whose absence `precise` stands for, and where all values are extreme."""
    weights, inputs = matrix((24, 96)), matrix((5, 96))
    weights[0] = inputs[0] = 3.0
    weights[1], inputs[1], inputs[2] = -3.0, -3.0, 0.0
    g = Graph()
    x = g.input("x", DataType.FLOAT, ["rows", 96])
    bias = g.weight("bias", np.arange(24, dtype=np.float32))
    g.output("y", RowStorage(g).linear(x, "w", weights, bias), DataType.FLOAT, ["rows", 24])
    save(g.model("product"), tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", precise)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    largest = np.abs(inputs).max(axis=1, keepdims=True)
    scaled = np.divide(inputs, largest, out=np.zeros_like(inputs), where=largest > 0)
    values = np.rint(scaled * np.float32(127)).astype(np.int64)
    rows = quantize_rows(weights)
    whole = values @ rows.values.T.astype(np.int64)
    expected = whole * (largest.astype(np.float64) / 127) * rows.scales + np.arange(24)
    (said,) = session.run(None, {"x": inputs})
    np.testing.assert_allclose(said, expected, rtol=2e-6, atol=1e-4)
    one_by_one = [session.run(None, {"x": inputs[i : i + 1]})[0][0] for i in range(5)]
    np.testing.assert_array_equal(said, one_by_one)


@pytest.mark.parametrize(
    ("name", "operators", "width", "expected"),
    [
        ("fp32", "nextok", 768, None),
        ("int8", "nextok", 768, 0),
        ("int8", "nextok", 160, 0),
        ("int4", "nextok", 768, 32),
        ("int4", "nextok", 160, 32),
        ("fp32", "onnxruntime", 768, None),
        ("int8", "onnxruntime", 768, 0),
        ("int8", "onnxruntime", 256, 0),
        ("int8", "onnxruntime", 160, 16),
        ("int4", "onnxruntime", 768, 32),
    ],
)
def test_blocks_follow_from_precision_operators_and_width(name, operators, width, expected):
    chosen = Precision.choose(name, operators=operators, width=width)
    assert chosen.block_size == expected
    if expected is not None and operators == "onnxruntime":
        assert Precision.choose(name, 128, operators=operators, width=width).block_size == 128


def test_operators_follow_from_what_is_asked_for():
    def chosen(*wish, width=768):
        return Precision.choose(*wish, width=width).operators

    assert chosen("fp32") == chosen("int8") == chosen("int4") == chosen("int8", 0) == "nextok"
    assert chosen("fp32", width=160) == "nextok"
    assert chosen("int8", 64) == chosen("int4", 64) == "onnxruntime"
    assert chosen("int8", width=160) == chosen("int4", width=160) == "onnxruntime"
