"""Weights in the order in which nextok's kernels read them.

Knows the layouts of docs/kernels.md. Knows nothing of models or graphs.

A panel is 64 outputs side by side; a matrix whose outputs do not fill the last one is padded with
zeros, and so are its inputs up to a multiple of 32 where weights are rounded.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from nextok_export.precision import GROUP
from nextok_export.quantize import Blocks, ByteArray, FloatArray, Rows, SignedArray

PANEL: Final = 64

IntArray = npt.NDArray[np.int32]


def _padded(array: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Zeros behind a matrix's rows and columns, up to multiples."""
    short = [-size % multiple for size, multiple in zip(array.shape, (rows, columns), strict=True)]
    return np.pad(array, [(0, short[0]), (0, short[1])])


def pack_floats(matrix: FloatArray) -> FloatArray:
    """[out, in] to [panels, in, 64]."""
    padded = _padded(matrix, PANEL, 1)
    return np.ascontiguousarray(padded.reshape(-1, PANEL, padded.shape[1]).transpose(0, 2, 1))


def pack_bytes(rows: Rows) -> tuple[SignedArray, FloatArray, IntArray]:
    """Rounded rows to panels.

    Returns:
        values int8 [panels, in / 4, 64, 4], scales float32 [panels * 64], and the sum of each
        output's values, int32 [panels * 64].
    """
    padded = _padded(rows.values, PANEL, GROUP)
    values = padded.reshape(-1, PANEL, padded.shape[1] // 4, 4).transpose(0, 2, 1, 3)
    scales = np.pad(rows.scales, (0, len(padded) - len(rows.scales)))
    return np.ascontiguousarray(values), scales, padded.sum(axis=1, dtype=np.int32)


def pack_nibbles(blocks: Blocks) -> ByteArray:
    """Blocks of 32 weights of 4 bits to uint8 [panels, blocks, 1152].

    Of each panel and block: four times 256 bytes, each of which holds, for 64 outputs, four inputs
    in the low halves and those 16 further on in the high ones; then 64 scales in 16-bit floats.
    """
    if blocks.bits != 4 or blocks.block_size != GROUP:
        raise ValueError(f"blocks of {blocks.block_size} weights of {blocks.bits} bits")
    outputs = len(blocks.values)
    short = -outputs % PANEL
    packed = np.pad(blocks.values, [(0, short), (0, 0), (0, 0)], constant_values=0x88)
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], GROUP)
    panels = nibbles.reshape(-1, PANEL, packed.shape[1], 2, 4, 4)  # panel, out, block, half, j, k
    halves = panels.transpose(3, 0, 2, 4, 1, 5)  # half, panel, block, j, out, k
    values = (halves[0] | halves[1] << 4).reshape(*halves.shape[1:3], -1)
    scales = np.pad(blocks.scales, [(0, short), (0, 0)]).astype(np.float16)
    scales = scales.reshape(-1, PANEL, packed.shape[1]).transpose(0, 2, 1)
    return np.concatenate([values, np.ascontiguousarray(scales).view(np.uint8)], axis=-1)
