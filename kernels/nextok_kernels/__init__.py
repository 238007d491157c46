"""GPT-2's operators for ONNX Runtime on CPU: domain `nextok`, see docs/kernels.md.

What chooses tokens is in `nextok_kernels.sampling`, what makes several steps of them in one run in
`nextok_kernels.course`, what writes them for the wire in `nextok_kernels.steps`.

Knows where the compiled library is. Imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["VERSION", "build", "library_path", "seconds_spent"]

VERSION = 2
"""The operators' version: graphs name the first one that has all of theirs."""

_NAME = "libnextok_kernels.dylib" if sys.platform == "darwin" else "libnextok_kernels.so"


def library_path() -> Path:
    """The library that ONNX Runtime registers: `SessionOptions.register_custom_ops_library`.

    Raises:
        FileNotFoundError: the package was not installed, so nothing was compiled.
    """
    path = Path(__file__).parent / _NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install nextok-kernels to compile it")
    return path


def build() -> str:
    """The build that is used: AMX, AVX-512 VNNI, AVX2 or portable, the fastest that runs here.

    The environment variable NEXTOK_KERNELS chooses another one of them.

    Raises:
        ValueError: it names one that this processor does not run.
    """
    library = ctypes.CDLL(str(library_path()))
    library.nextok_kernels_build.restype = ctypes.c_char_p
    name: bytes | None = library.nextok_kernels_build()
    if name is None:
        wanted = os.environ["NEXTOK_KERNELS"]
        raise ValueError(f"NEXTOK_KERNELS is {wanted!r}, which this processor does not run")
    return name.decode()


def seconds_spent() -> tuple[float, float]:
    """How long products and attention have taken in this process, of all sessions together."""
    library = ctypes.CDLL(str(library_path()))
    spent = ctypes.c_uint64(), ctypes.c_uint64()
    library.nextok_kernels_spent(*map(ctypes.byref, spent))
    products, attention = (nanoseconds.value / 1e9 for nanoseconds in spent)
    return products, attention
