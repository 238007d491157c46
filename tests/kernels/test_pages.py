"""Where weights stand in memory."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.operators import stored

from nextok_export.tape import NEXTOK, Graph

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
import pathlib, re, sys
import nextok_kernels, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(str(nextok_kernels.library_path()))
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
memory = pathlib.Path("/proc/self/smaps_rollup").read_text()
print(re.search(r"AnonHugePages:\\s+(\\d+) kB", memory)[1])
"""


def moves_pages() -> bool:
    """Whether the system has large pages, and moves what is stored already into them."""
    if platform.system() != "Linux" or not SETTING.exists():
        return False
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    assert release is not None
    return (int(release[1]), int(release[2])) >= (6, 1) and "[never]" not in SETTING.read_text()


@pytest.mark.skipif(not moves_pages(), reason="this system does not move memory into large pages")
@pytest.mark.parametrize(("kind", "outputs"), [("Float32", 2048), ("Int8", 8192), ("Int4", 16384)])
def test_weights_stand_in_large_pages_once_they_are_loaded(kind, outputs, tmp_path):
    inputs = 1024
    g = Graph()
    matrix = np.random.default_rng(9).standard_normal((outputs, inputs), np.float32)
    weights, _ = stored(g, kind, matrix)
    x = g.input("x", ir.DataType.FLOAT, ["T", inputs])
    sizes = {"in_features": inputs, "out_features": outputs, "gelu_tanh": 0, "epsilon": 1e-5}
    y = g.op(f"Linear{kind}", x, *weights, domain=NEXTOK, activation_bits=8, **sizes)
    g.output("y", y, ir.DataType.FLOAT, ["T", outputs])
    (tmp_path / "model.onnx").write_bytes(ir.to_proto(g.model("operator")).SerializeToString())
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model.onnx")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    # 8 MB of weights and a little more: the outermost pages may belong to other memory, too.
    assert int(said.stdout) >= 6 * 1024
