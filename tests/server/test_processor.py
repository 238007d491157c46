"""The fast products of bytes are used only where they cannot overflow."""

import pytest

from nextok_server import processor


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "exact"),
    [
        ("x86_64", "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n", True),
        ("AMD64", "flags\t: avx2 avx_vnni\n", True),
        ("x86_64", "flags\t: avx2 avx512f\n", False),
        ("x86_64", "", False),
        ("x86_64", None, False),
        ("aarch64", None, True),
    ],
)
def test_vnni_has_to_be_known_of_on_x86(monkeypatch, tmp_path, machine, cpuinfo, exact):
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_CPUINFO", path)
    assert processor.sums_bytes_exactly() is exact
