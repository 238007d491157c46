"""Weights in few bits, in blocks or in whole rows.

Knows the arithmetic and the layout that ONNX Runtime's MatMulNBits and GatherBlockQuantized
read. Knows nothing of models or graphs.

Blocks are symmetric: a block of consecutive weights of one output shares one scale, and a
stored value q stands for `(q - zero) * scale` with zero = 2^(bits - 1). The scale is chosen so
that the weight of largest magnitude falls on q = 0, the end of the range that reaches one step
further; it may therefore be negative.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
SignedArray = npt.NDArray[np.int8]

BLOCK_SIZES: Final = (16, 32, 64, 128, 256)
"""Block sizes that ONNX Runtime's CPU kernels take."""

_ROWS_AT_A_TIME: Final = 2048
"""Rows quantized together: bounds the temporary memory on a large vocabulary."""


@dataclass(frozen=True)
class Blocks:
    """A matrix [rows, columns] in blocks along its columns.

    Attributes:
        values: uint8 [rows, blocks, block_size * bits / 8]; at 4 bits, the even column of a
            pair is in the low half of the byte. Columns past the matrix's own stand for 0.
        scales: float32 [rows, blocks].
        bits: 4 or 8.
        columns: columns of the matrix, without padding.
    """

    values: ByteArray
    scales: FloatArray
    bits: int
    columns: int

    @property
    def block_size(self) -> int:
        """Weights that share one scale."""
        return int(self.values.shape[2]) * 8 // self.bits


@dataclass(frozen=True)
class Rows:
    """A matrix [rows, columns] of 8 bits; a value q stands for `q * scale`.

    Attributes:
        values: int8 [rows, columns], -127 to 127.
        scales: float32 [rows].
    """

    values: SignedArray
    scales: FloatArray


def quantize_rows(matrix: FloatArray) -> Rows:
    """Rounds a matrix [rows, columns] to 8 bits, with one scale a row."""
    largest = np.maximum(matrix.max(axis=1), -matrix.min(axis=1))
    scales = (largest / np.float32(127)).astype(np.float32)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    values = np.empty(matrix.shape, np.int8)
    for start in range(0, len(matrix), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        values[part] = np.clip(np.rint(matrix[part] * inverse[part, None]), -127, 127)
    return Rows(values, scales)


def quantize(matrix: FloatArray, *, bits: int, block_size: int) -> Blocks:
    """Rounds a matrix to a few bits.

    Args:
        matrix: float32 [rows, columns].
        bits: 4 or 8.
        block_size: one of BLOCK_SIZES.

    Returns:
        The matrix in blocks; the last block of a row is padded where the columns do not fill it.
    """
    rows, columns = matrix.shape
    blocks = -(-columns // block_size)
    values = np.empty((rows, blocks, block_size * bits // 8), dtype=np.uint8)
    scales = np.empty((rows, blocks), dtype=np.float32)
    for start in range(0, rows, _ROWS_AT_A_TIME):
        part = slice(start, min(start + _ROWS_AT_A_TIME, rows))
        padded = np.zeros((part.stop - start, blocks * block_size), dtype=np.float32)
        padded[:, :columns] = matrix[part]
        whole, scales[part] = _round(padded.reshape(-1, blocks, block_size), bits)
        values[part] = whole if bits == 8 else whole[..., 0::2] | (whole[..., 1::2] << 4)
    return Blocks(values, scales, bits, columns)


def dequantize(blocks: Blocks) -> FloatArray:
    """The matrix [rows, columns] that the blocks stand for."""
    values = blocks.values
    if blocks.bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], -1)
    zero = np.float32(1 << (blocks.bits - 1))
    matrix: FloatArray = (values.astype(np.float32) - zero) * blocks.scales[..., None]
    return matrix.reshape(matrix.shape[0], -1)[:, : blocks.columns]


def _round(weights: FloatArray, bits: int) -> tuple[ByteArray, FloatArray]:
    """Values, one a byte, and scales of weights [rows, blocks, block_size]."""
    zero = 1 << (bits - 1)
    largest = np.argmax(np.abs(weights), axis=-1, keepdims=True)
    scales = np.take_along_axis(weights, largest, axis=-1) / np.float32(-zero)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    values = np.clip(np.rint(weights * inverse) + zero, 0, 2 * zero - 1).astype(np.uint8)
    return values, scales[..., 0]
