"""Installs the peers, each by itself: one that cannot be installed does not stop the others.

    python bench/install.py [--base]

Runs with the Python of bench/.venv. What failed, and why, goes into installed.json beside that
Python, and from there into the results. `--base` installs only what `make bench-quick` needs.
Versions are pinned by constraints.txt and bench/requirements.txt.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = Path(sys.prefix) / "installed.json"
PINS = [
    part
    for file in (ROOT / "constraints.txt", ROOT / "bench" / "requirements.txt")
    for part in ("--constraint", str(file))
]
# Without the multimodal library, which nothing here needs; about 2.5 minutes on two cores. Without
# AMX: on a Xeon that has it, 0.3.36 built by GCC 12 died of an illegal instruction at Q8_0 and
# Q4_0, where it loads its first tile.
_WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" if platform.machine() == "x86_64" else ""
LLAMA_OPTIONS = (
    "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF "
    f'-DCMAKE_C_FLAGS="{_WITHOUT_AMX}" -DCMAKE_CXX_FLAGS="{_WITHOUT_AMX}"'
)
# What the beginnings of contenders' names need. nextok brings torch, transformers and optimum.
PEERS = {
    "ctranslate2-": ["ctranslate2"],
    "openvino-": ["openvino-genai", "optimum-intel", "nncf"],
    "ortgenai-": ["onnxruntime-genai"],
    "llamacpp-": ["llama-cpp-python", "gguf"],
}


def main() -> None:
    """Installs what is not there yet, and writes down what failed."""
    record = _read()
    wanted = {
        "base": [
            *("--editable", f"{ROOT}/kernels", "--editable", f"{ROOT}[cli,server,export]"),
            "matplotlib",
        ]
    }
    if "--base" not in sys.argv[1:]:
        wanted |= PEERS
    for name, packages in wanted.items():
        record[name] = _install(name, packages)
        RECORD.write_text(json.dumps(record, indent=1), encoding="utf-8")
        if name == "base" and record[name] is not None:
            sys.exit(f"nextok itself cannot be installed: {record[name]}")


def _install(name: str, packages: list[str]) -> str | None:
    """Installs some packages; returns why it failed, or None."""
    start = time.monotonic()
    print(f"installing {name.rstrip('-')} ...", flush=True)
    environment = os.environ | {
        "CMAKE_ARGS": LLAMA_OPTIONS,
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
    }
    command = [sys.executable, "-m", "pip", "install", "--quiet", *PINS, *packages]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(f"    {'failed' if done.returncode else 'done'}: {time.monotonic() - start:.0f} s")
    if not done.returncode:
        return None
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1].strip()[:300]


def _read() -> dict[str, str | None]:
    if not RECORD.exists():
        return {}
    found: dict[str, str | None] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def failures_by_contender() -> dict[str, str]:
    """Why contenders are missing, by their names; empty outside of bench/.venv."""
    from bench.contenders import CONTENDERS

    record = _read()
    return {
        contender.name: f"install: {reason}"
        for contender in CONTENDERS
        for peer, reason in record.items()
        if reason is not None and contender.name.startswith(peer)
    }


if __name__ == "__main__":
    main()
