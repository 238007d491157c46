"""Compiles the library when the package is built or installed.

Knows the compiler's options. The compiler is the one that CXX names, else the system's `c++`, else
that of the package `ziglang`, which pip then brings for the time of the build.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path(__file__).parent / "nextok_kernels"
LIBRARY = "libnextok_kernels.dylib" if sys.platform == "darwin" else "libnextok_kernels.so"

# Sums have to come out alike on every processor: no contraction of products and sums but where the
# source says so. Where a build needs another level of optimization, its own options come later.
FLAGS = [
    "-std=c++20",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-unknown-warning-option",
    "-Wno-maybe-uninitialized",
    "-Wno-ignored-attributes",
]
# One build of kernels.cpp for each family of processors: namespace, name, options.
BUILDS = {
    "nextok_avx512": (
        "AVX-512 VNNI",
        "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c",
    ),
    "nextok_avx2": ("AVX2", "-mavx2 -mfma -mf16c"),
    "nextok_portable": ("portable", ""),
}
# What the first of them gets where there are tiles too.
TILES = f"{BUILDS['nextok_avx512'][1]} -mamx-tile -mamx-int8"
# Without AVX, each vector is four and many an operation a loop over sixteen lanes. Unrolled within
# loops that are unrolled, they keep GCC busy for minutes, so they stay loops: then products of
# bytes take twice the time, and those of floats no longer. Other processors have instructions
# for all this.
PORTABLE_ON_X86 = "-O1 --param max-completely-peel-times=4"


class BuildLibrary(BuildHookInterface):
    """Adds the compiled library to the wheel."""

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling."""
        return [] if _system_compiler() else ["ziglang>=0.13"]

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Compiles."""
        _compile(_system_compiler() or [sys.executable, "-m", "ziglang", "c++"])
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"
        build_data["artifacts"].append(f"nextok_kernels/{LIBRARY}")


def _system_compiler() -> list[str] | None:
    if "CXX" in os.environ:
        return shlex.split(os.environ["CXX"])
    found = shutil.which("c++")
    return [found] if found else None


def _platform_tag() -> str:
    from packaging.tags import platform_tags  # comes with hatchling

    return next(iter(platform_tags()))


def _compile(compiler: list[str]) -> None:
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    names = list(BUILDS) if on_x86 else ["nextok_portable"]
    sources = PACKAGE / "src"
    with tempfile.TemporaryDirectory() as folder:
        objects: list[Path] = []
        commands: list[list[str]] = []

        def add(source: str, name: str, *options: str) -> None:
            objects.append(Path(folder) / f"{name}.o")
            commands.append(
                [*compiler, *FLAGS, *options, "-c", str(sources / source), "-o", str(objects[-1])]
            )

        for name in names:
            label, options = BUILDS[name]
            if on_x86 and name == "nextok_portable":
                options = PORTABLE_ON_X86
            defines = f"-DNEXTOK_BUILD={name}", f'-DNEXTOK_NAME="{label}"'
            add("kernels.cpp", name, *defines, *options.split())
        if on_x86:
            add("tiles.cpp", "tiles", "-DNEXTOK_BUILD=nextok_amx", *TILES.split())
        for name in (
            "library",
            "operators",
            "layers",
            "repeats",
            "course",
            "pieces",
            "team",
            "choice",
            "sampling",
            "steps",
        ):
            add(f"{name}.cpp", name)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        made = Path(folder) / LIBRARY
        _run([*compiler, "-shared", "-s", "-o", str(made), *map(str, objects)])
        # Replaced whole: a process may have the old one loaded.
        target = PACKAGE / LIBRARY
        target.unlink(missing_ok=True)
        shutil.copyfile(made, target)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)
