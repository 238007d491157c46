"""From a GPT-2 checkpoint to an artifact that nextok-server serves.

Torch, transformers and optimum live here and nowhere else in nextok.
"""

from nextok_export.errors import (
    ArtifactError,
    CertificateError,
    ExportError,
    UnsupportedModelError,
    UsageError,
)
from nextok_export.pipeline import Artifact, export
from nextok_export.report import Report

__all__ = [
    "Artifact",
    "ArtifactError",
    "CertificateError",
    "ExportError",
    "Report",
    "UnsupportedModelError",
    "UsageError",
    "export",
]
