"""What the processor can do, where ONNX Runtime leaves the choice to us.

Knows: how systems name processors. Does not know: models, sessions.
"""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_DOT_PRODUCT_FLAGS = {"avx512_vnni", "avx_vnni"}


def sums_bytes_exactly() -> bool:
    """Whether fast products of unsigned by signed bytes cannot overflow.

    x86 processors without VNNI add pairs of them up in 16 bits, which saturates. Where that
    cannot be ruled out the answer is no.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _DOT_PRODUCT_FLAGS.isdisjoint(flags.split())
