"""nextok's operators against NumPy in float64."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support.operators import opened, stored

from nextok_export.tape import NEXTOK, Graph

KINDS = ("Float32", "Int8", "Int4")
SIZES = [(160, 200), (96, 64), (80, 70), (768, 130)]


def rounded(x, steps):
    """Rows as a rounded product takes them; float32 as the operator has them."""
    x = x.astype(np.float32)
    largest = np.abs(x).max(axis=1, keepdims=True)
    return np.rint(x * (np.float32(steps) / largest)) * (largest.astype(np.float64) / steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
@pytest.mark.parametrize("rows", [1, 5, 16, 110])
def test_a_product_is_that_of_its_stored_weights_whatever_rows_there_are(
    kind, inputs, outputs, rows
):
    random = np.random.default_rng(7)
    g = Graph()
    weights, matrix = stored(g, kind, random.standard_normal((outputs, inputs), np.float32))
    bias = random.standard_normal(outputs, np.float32)
    x = g.input("x", ir.DataType.FLOAT, ["T", inputs])
    y = g.op(
        f"Linear{kind}",
        *(x, *weights, g.weight("bias", bias)),
        domain=NEXTOK,
        in_features=inputs,
        out_features=outputs,
        gelu_tanh=0,
        activation_bits=8,
        epsilon=1e-5,
    )
    g.output("y", y, ir.DataType.FLOAT, ["T", outputs])
    session = opened(g)
    values = random.standard_normal((rows, inputs), np.float32)
    (said,) = session.run(None, {"x": values})
    exact = values if kind == "Float32" else rounded(values, 127)
    expected = exact.astype(np.float64) @ matrix.T.astype(np.float64) + bias
    np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-4)
    singly = [session.run(None, {"x": row[None]})[0][0] for row in values]
    np.testing.assert_array_equal(said, singly)


def test_activations_of_16_bits_are_256_times_finer():
    random = np.random.default_rng(8)
    matrix, values = (random.standard_normal((40, 160), np.float32) for _ in range(2))
    errors = []
    for bits in (8, 16):
        g = Graph()
        weights, stored_matrix = stored(g, "Int8", matrix)
        x = g.input("x", ir.DataType.FLOAT, ["T", 160])
        y = g.op(
            "LinearInt8",
            *(x, *weights),
            domain=NEXTOK,
            in_features=160,
            out_features=40,
            gelu_tanh=0,
            activation_bits=bits,
            epsilon=1e-5,
        )
        g.output("y", y, ir.DataType.FLOAT, ["T", 40])
        (said,) = opened(g).run(None, {"x": values})
        expected = values.astype(np.float64) @ stored_matrix.T.astype(np.float64)
        errors.append(np.abs(said - expected).max())
    assert errors[1] < errors[0] / 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_norm_and_gelu_around_a_product_are_those_of_gpt2(kind):
    random = np.random.default_rng(9)
    rows, inputs, outputs = 7, 160, 96
    g = Graph()
    weights, matrix = stored(g, kind, random.standard_normal((outputs, inputs), np.float32) * 0.1)
    x, change = (g.input(n, ir.DataType.FLOAT, ["T", inputs]) for n in ("x", "change"))
    norm = {n: random.standard_normal(inputs, np.float32) for n in ("weight", "bias", "c_bias")}
    y, total = g.ops(
        2,
        f"Linear{kind}",
        *(x, *weights, None, g.weight("n", norm["weight"]), g.weight("b", norm["bias"])),
        *(change, g.weight("c", norm["c_bias"])),
        domain=NEXTOK,
        in_features=inputs,
        out_features=outputs,
        gelu_tanh=1,
        activation_bits=8,
        epsilon=1e-5,
    )
    g.output("y", y, ir.DataType.FLOAT, ["T", outputs])
    g.output("total", total, ir.DataType.FLOAT, ["T", inputs])
    feeds = {n: 30 * random.standard_normal((rows, inputs), np.float32) for n in ("x", "change")}
    said, summed = opened(g).run(None, feeds)
    exact = feeds["x"].astype(np.float64) + feeds["change"] + norm["c_bias"]
    np.testing.assert_allclose(summed, exact, rtol=1e-6, atol=1e-5)
    centered = exact - exact.mean(axis=1, keepdims=True)
    normal = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-5)
    normal = normal * norm["weight"] + norm["bias"]
    if kind != "Float32":
        normal = rounded(normal, 127)
    product = normal @ matrix.T.astype(np.float64)
    cubic = np.sqrt(2 / np.pi) * (product + 0.044715 * product**3)
    expected = product * (1 + np.tanh(cubic)) / 2
    # A value at the edge between two steps may be rounded to either.
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=2e-3)


def test_past_and_present_apart_are_refused():
    g = Graph()
    packed = g.input("packed", ir.DataType.FLOAT, ["T", 48])
    past = [g.input(n, ir.DataType.FLOAT, [1, 1, 16, 16]) for n in ("keys", "values")]
    slots = g.input("slots", ir.DataType.INT32, ["T"])
    places = g.input("places", ir.DataType.INT64, ["T"])
    out, *present = g.ops(
        3, "AttentionFloat32", packed, *past, slots, places, domain=NEXTOK, scale=0.25
    )
    g.output("out", out, ir.DataType.FLOAT, ["T", 16])
    for name, value in zip(("k", "v"), present, strict=True):
        g.output(name, value, ir.DataType.FLOAT, [1, 1, 16, 16])
    cache = np.zeros((1, 1, 16, 16), np.float32)
    feeds = {"packed": np.ones((1, 48), np.float32), "keys": cache, "values": cache.copy()}
    feeds |= {"slots": np.zeros(1, np.int32), "places": np.zeros(1, np.int64)}
    with pytest.raises(Exception, match="bound to the same memory"):
        opened(g).run(None, feeds)
