"""Recording an ONNX graph, one operator a line.

Knows onnx-ir. Knows nothing of GPT-2.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.tape import Tape

OPSET: Final = 21
MICROSOFT: Final = "com.microsoft"
NEXTOK: Final = "nextok"
INLINE_LIMIT: Final = 2_000_000_000
"""Bytes of weights that fit into one protobuf file, whose own limit is 2 GiB."""

Array = (
    npt.NDArray[np.float32]
    | npt.NDArray[np.int64]
    | npt.NDArray[np.int32]
    | npt.NDArray[np.uint8]
    | npt.NDArray[np.int8]
)


class Graph:
    """A graph that is being written; its values are used in the order in which they are made."""

    def __init__(self) -> None:
        self._tape = Tape()
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self._constants: dict[str, ir.Value] = {}

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        """Declares an input."""
        value = ir.val(name, dtype, shape)
        self._inputs.append(value)
        return value

    def output(
        self, name: str, value: ir.Value, dtype: ir.DataType, shape: Sequence[int | str]
    ) -> None:
        """Declares a value as an output."""
        value.name = name
        value.dtype = dtype
        value.shape = ir.Shape(shape)
        self._outputs.append(value)

    def weight(self, name: str, array: Array) -> ir.Value:
        """A constant of the graph. The same name always means the same constant."""
        if name not in self._constants:
            tensor = ir.tensor(np.ascontiguousarray(array), name=name)
            self._constants[name] = self._tape.initializer(tensor)
        return self._constants[name]

    def integers(self, *values: int) -> ir.Value:
        """A small constant, such as a shape or a list of axes."""
        name = "integers" + "".join(f"_{value}" for value in values)
        return self.weight(name, np.array(values, np.int64))

    def op(
        self,
        operator: str,
        *inputs: ir.Value | None,
        domain: str = "",
        **attributes: int | float | str | tuple[int, ...],
    ) -> ir.Value:
        """Appends an operator with one output."""
        return self.ops(1, operator, *inputs, domain=domain, **attributes)[0]

    def ops(
        self,
        outputs: int,
        operator: str,
        *inputs: ir.Value | None,
        domain: str = "",
        **attributes: int | float | str | tuple[int, ...],
    ) -> Sequence[ir.Value]:
        """Appends an operator with several outputs."""
        return self._tape.op_multi_out(
            operator, inputs, attributes, num_outputs=outputs, domain=domain
        )

    def model(self, name: str) -> ir.Model:
        """The finished model."""
        graph = ir.Graph(
            inputs=self._inputs,
            outputs=self._outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": OPSET, MICROSOFT: 1, NEXTOK: 1},
            name=name,
        )
        return ir.Model(graph, ir_version=10, producer_name="nextok-export")


def save(model: ir.Model, path: Path, *, inline_limit: int = INLINE_LIMIT) -> None:
    """Writes a model, with its weights beside it where they are too large for one file.

    Args:
        model: what to write.
        path: the model's file; large weights go to the same name with `.data` after it.
        inline_limit: bytes of weights from which on they go beside the model.
    """
    weights = [value.const_value for value in model.graph.initializers.values()]
    stored = sum(tensor.nbytes for tensor in weights if tensor is not None)
    beside = path.name + ".data" if stored >= inline_limit else None
    if beside is None:
        ir.external_data.load_to_model(model)
    ir.save(model, path, external_data=beside)
    onnx.checker.check_model(path)


def load(path: Path) -> ir.Model:
    """Reads a model; weights that lie beside it are read when they are used."""
    return ir.load(path)
