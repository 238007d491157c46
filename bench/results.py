"""The file of results: machine, versions, settings, every round's figures, what follows from them.

Knows: how the parts are put together. Does not know: how they are measured.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import processes, rounds, summary
from bench.contenders import CONTENDERS, Contender
from bench.prepare import Field
from bench.scenarios import Scenario

PACKAGES = [
    "nextok",
    "onnxruntime",
    "grpcio",
    "numpy",
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "optimum-intel",
    "onnxruntime-genai",
    "ctranslate2",
    "openvino",
    "openvino-genai",
    "nncf",
    "llama-cpp-python",
    "gguf",
]


def versions() -> dict[str, str | None]:
    """Of everything that computes or exports; None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    """What it was measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip(): text.strip() for name, _, text in pairs}
    pages = os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "instructions": [
            name
            for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
            if name in fields.get("flags", "").split()
        ],
        "processors": os.cpu_count(),
        "memory_gigabytes": round(pages * processes.PAGE / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def contenders(
    chosen: Iterable[Contender],
    here: Field,
    memory: Mapping[str, int],
    idle: Mapping[str, float],
) -> dict[str, Any]:
    """Each contender: what it is, what it weighs, and why it is missing, if it is."""
    return {
        contender.name: {
            "label": contender.label,
            "precision": contender.precision,
            "about": contender.about,
            "settings": dict(contender.settings),
            "weights_bytes": here.weights.get(contender.name),
            "resident_bytes": memory.get(contender.name),
            "idle_processors": idle.get(contender.name),
            "failed": here.failures.get(contender.name),
        }
        for contender in chosen
    }


def scenarios(chosen: Iterable[Scenario], measured: rounds.Rounds) -> dict[str, Any]:
    """Each scenario: what it is, its rounds, their medians, and who is missing."""
    return {
        scenario.name: {
            **rounds.settings(scenario),
            "summary": summary.medians(measured.found[scenario.name]),
            "missing": measured.missing[scenario.name],
            "rounds": measured.found[scenario.name],
        }
        for scenario in chosen
    }


def derived(found: dict[str, Any], here: Field) -> dict[str, Any]:
    """Ratios and the memory floor.

    Args:
        found: What `scenarios` returned.
        here: For the weights' sizes.
    """
    precisions = {contender.name: contender.precision for contender in CONTENDERS}
    by_round = {name: scenario["rounds"] for name, scenario in found.items()}
    one_stream = by_round.get("streams_1", [])
    return {
        "ratios": summary.ratios(by_round, precisions),
        "gigabytes_per_second": summary.bandwidth(here.weights, one_stream),
        "memory_floor": summary.memory_floor(here.weights, one_stream),
    }
