"""Who takes part: one line a contender, one file for each of their engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contender:
    """One way of running the model.

    Attributes:
        name: Its key in the results.
        label: Its name for people.
        engine: File in this folder that runs it.
        precision: fp32, fp16, int8, int4, or none where no model is computed; ratios are taken at
            equal precision.
        settings: What sets it apart from others of the same engine.
        files: Folder of its model files; those that share it are exported once.
        about: What a reader has to know to judge its figures.
    """

    name: str
    label: str
    engine: str
    precision: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: str = ""
    about: str = ""

    @property
    def folder(self) -> str:
        """Folder of its model files."""
        return self.files or self.name

    @property
    def module(self) -> str:
        """Where its code is."""
        return f"bench.contenders.{self.engine}"


# The graph with MatMulNBits alone and a float32 cache, as nextok exported int8 before it rounded
# whole rows: shows what those bring.
PLAIN_INT8 = (
    *("--precision", "int8", "--block-size", "64", "--cache", "float32"),
    *("--operators", "onnxruntime"),
)

_OPENVINO_DEFAULTS = "activations and KV cache in OpenVINO's own default types, see settings"
_LLAMA_KV = "KV cache in F16, llama.cpp's default"


def _nextok(precision: str) -> Contender:
    export = ("--precision", precision)
    return Contender(
        f"nextok-{precision}",
        f"nextok {precision}",
        "nextok_grpc",
        precision,
        {"export": export},
        about="through gRPC from a process of its own, 10 candidates at every step",
    )


CONTENDERS = (
    Contender("transformers-fp32", "transformers fp32", "torch_transformers", "fp32"),
    Contender("optimum-fp32", "optimum ORT fp32", "optimum_ort", "fp32"),
    Contender(
        "ortgenai-fp32",
        "onnxruntime-genai fp32",
        "ort_genai",
        "fp32",
        files="optimum-fp32",
        about="its model builder has no GPT-2: its decoder loop over optimum's graph",
    ),
    Contender("ctranslate2-fp32", "CTranslate2 fp32", "ctranslate", "fp32", {"type": "float32"}),
    Contender("ctranslate2-int8", "CTranslate2 int8", "ctranslate", "int8", {"type": "int8"}),
    Contender(
        "llamacpp-fp32",
        "llama.cpp F32",
        "llamacpp",
        "fp32",
        {"type": "F32", "kv": "F32"},
        files="llamacpp",
        about="KV cache in F32",
    ),
    *(
        Contender(
            f"llamacpp-{precision}",
            f"llama.cpp {kind}",
            "llamacpp",
            precision,
            {"type": kind, "kv": "F16"},
            files="llamacpp",
            about=_LLAMA_KV,
        )
        for precision, kind in (("fp16", "F16"), ("int8", "Q8_0"), ("int4", "Q4_0"))
    ),
    Contender(
        "openvino-fp32",
        "OpenVINO GenAI fp32",
        "openvino_genai",
        "fp32",
        {
            "weights": ("fp32",),
            "properties": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
        },
        about="activations and KV cache set to f32",
    ),
    Contender(
        "openvino-int8",
        "OpenVINO GenAI int8",
        "openvino_genai",
        "int8",
        {"weights": ("int8",), "properties": {}},
        about=_OPENVINO_DEFAULTS,
    ),
    Contender(
        "openvino-int4",
        "OpenVINO GenAI int4",
        "openvino_genai",
        "int4",
        {"weights": ("int4", "--group-size", "128", "--ratio", "1.0"), "properties": {}},
        about=f"{_OPENVINO_DEFAULTS}; embedding and head at int8",
    ),
    *(_nextok(precision) for precision in ("fp32", "int8", "int4")),
    Contender(
        "nextok-plain-int8",
        "nextok int8, plain MatMulNBits",
        "nextok_grpc",
        "int8",
        {"export": PLAIN_INT8},
        about="see PLAIN_INT8 in bench/contenders/__init__.py",
    ),
    Contender(
        "nextok-bare-int8",
        "nextok int8, bare engine",
        "nextok_engine",
        "int8",
        {"export": ("--precision", "int8")},
        files="nextok-int8",
        about="the engine's loop in process, no gRPC; 10 candidates at every step",
    ),
    Contender(
        "memory",
        "reading alone",
        "memory",
        "none",
        about="reads 268 MB from memory in place of each token: what memory permits",
    ),
)

BY_NAME = {contender.name: contender for contender in CONTENDERS}
