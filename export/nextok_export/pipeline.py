"""An export, from a checkpoint to an artifact, stage by stage.

Knows the order of the stages and what each hands to the next. Each stage's work is in the module
that is named after it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx_ir

from nextok_export import graph, kernel_graph
from nextok_export.artifact import check_place, staged, write_json, write_manifest
from nextok_export.calibration import CacheScales, cache_scales
from nextok_export.certificate import POSITIONS, Certificate, References, certify
from nextok_export.checkpoint import Checkpoint, open_checkpoint
from nextok_export.errors import UsageError
from nextok_export.precision import Precision, check_options
from nextok_export.reference import export_reference, load_model
from nextok_export.report import Report, size
from nextok_export.source import locate
from nextok_export.tape import load, save
from nextok_export.texts import calibration_texts
from nextok_export.tokenizer import load_tokenizer

DEFAULT_PRECISION: Final = "int8"


@dataclass(frozen=True)
class Artifact:
    """A written artifact.

    Attributes:
        folder: where it lies.
        manifest: the content of manifest.json.
        certificate: the content of certificate.json.
    """

    folder: Path
    manifest: dict[str, Any]
    certificate: dict[str, Any]


def export(
    model: str | Path,
    out: str | Path,
    *,
    precision: str = DEFAULT_PRECISION,
    block_size: int | None = None,
    cache: str | None = None,
    operators: str | None = None,
    keep_reference: bool = False,
    name: str | None = None,
    force: bool = False,
    positions: int = POSITIONS,
    report: Report | None = None,
) -> Artifact:
    """Turns a GPT-2 checkpoint into an artifact that nextok-server serves.

    Args:
        model: `demo`, a checkpoint's folder, or a hub id.
        out: where to write the artifact; must be absent or empty.
        precision: fp32, int8 or int4.
        block_size: weights that share one scale, 0 for all of an output; None takes the
            precision's default.
        cache: what keys and values are kept in, float32 or int8; None takes the default.
        operators: whose operators the graph is made of, nextok or onnxruntime; None takes
            nextok's own wherever they are exact enough.
        keep_reference: whether optimum's portable graph is kept, as reference.onnx.
        name: the model's name; None takes it from `model`.
        force: whether an artifact that is there already is replaced.
        positions: how many positions the certificate compares at least.
        report: hears of every stage.

    Returns:
        The artifact, its manifest and its certificate.

    Raises:
        UsageError: an argument cannot be worked with.
        UnsupportedModelError: the serving graph has no form for the checkpoint.
        CertificateError: the graph does not compute what the checkpoint computes; nothing is
            written.
        ArtifactError: a file could not be written.
    """
    check_options(precision, block_size, cache, operators)
    report, out = report or Report(), Path(out).absolute()
    if positions < 1:
        raise UsageError(f"positions is {positions}; allowed: at least 1")
    check_place(out, force=force)
    with report.stage("Checkpoint") as stage:
        source = locate(str(model))
        checkpoint = open_checkpoint(source.folder)
        width = checkpoint.architecture.width
        chosen = Precision.choose(precision, block_size, cache, operators, width=width)
        tokenizer = load_tokenizer(source.folder, checkpoint.architecture.vocabulary_size)
        stage.done(_describe(checkpoint))
    with staged(out) as folder:
        references = _reference(checkpoint, folder, report, keep_reference)
        scales = (
            _cache_scales(checkpoint, references, tokenizer, report) if chosen.int8_cache else None
        )
        _graph(checkpoint, chosen, scales, folder, report)
        certificate = _certificate(
            checkpoint, chosen, folder, references, tokenizer, positions, report
        )
        with report.stage("Artifact") as stage:
            tokenizer.save(str(folder / "tokenizer.json"))
            write_json(folder / "certificate.json", certificate.as_json())
            manifest = write_manifest(folder, name or source.name, checkpoint, certificate)
            stage.done(f"{out}, {size(sum(f['bytes'] for f in manifest['files'].values()))}")
    report.summary(manifest, certificate.as_json())
    return Artifact(out, manifest, certificate.as_json())


def _describe(checkpoint: Checkpoint) -> str:
    a = checkpoint.architecture
    stored = sum(path.stat().st_size for path in checkpoint.files)
    return (
        f"GPT-2, {a.layers} layers of width {a.width}, {a.heads} heads, vocabulary "
        f"{a.vocabulary_size:,}, context {a.context_length:,}; {size(stored)} of weights"
    )


def _reference(checkpoint: Checkpoint, folder: Path, report: Report, keep: bool) -> References:
    """The oracles; the portable graph lies beside the artifact unless it is kept in it."""
    with report.stage("Reference") as stage:
        stage.tell("loading the checkpoint into torch")
        model = load_model(checkpoint.folder)
        stage.tell("optimum exports the portable graph")
        path = export_reference(model, folder.parent / "reference")
        stored = sum(file.stat().st_size for file in path.parent.glob("model.onnx*"))
        if keep:
            save(load(path), folder / "reference.onnx")
        stage.done(f"optimum's graph with KV cache, {size(stored)}")
    return References(model, path)


def _cache_scales(
    checkpoint: Checkpoint, references: References, tokenizer: Any, report: Report
) -> CacheScales:
    with report.stage("Calibration") as stage:
        a = checkpoint.architecture
        texts = calibration_texts(tokenizer, a.vocabulary_size, a.context_length)
        scales = cache_scales(references.model, texts)
        stage.done(f"steps of an int8 cache, from {sum(map(len, texts)):,} tokens")
    return scales


def build(
    checkpoint: Checkpoint, precision: Precision, scales: CacheScales | None
) -> onnx_ir.Model:
    """The serving graph, of the operators that the precision names."""
    if precision.operators == "nextok":
        return kernel_graph.build(checkpoint, precision, scales)
    return graph.build(checkpoint, precision, scales)


def _graph(
    checkpoint: Checkpoint,
    precision: Precision,
    scales: CacheScales | None,
    folder: Path,
    report: Report,
) -> None:
    with report.stage("Graph") as stage:
        stage.tell(f"writing GPT-2 in {precision}")
        model = build(checkpoint, precision, scales)
        save(model, folder / "model.onnx")
        stored = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
        stage.done(f"{len(model.graph)} nodes, {precision}, {size(stored)}")


def _certificate(
    checkpoint: Checkpoint,
    precision: Precision,
    folder: Path,
    references: References,
    tokenizer: Any,
    positions: int,
    report: Report,
) -> Certificate:
    with report.stage("Certificate") as stage:
        certificate = certify(
            folder / "model.onnx",
            checkpoint,
            precision,
            references,
            tokenizer,
            positions=positions,
            tell=stage.tell,
        )
        certificate.check()
        stage.done(_figures(certificate))
    return certificate


def _figures(certificate: Certificate) -> str:
    against = [c for c in certificate.comparisons if c.reference == "torch"]
    worst = max(c.max_abs_logprob_difference for c in against)
    kl = sum(c.mean_kl * c.positions for c in against) / certificate.positions
    top1 = sum(c.top1_agreement * c.positions for c in against) / certificate.positions
    return (
        f"{certificate.positions:,} positions against torch: max |Δlogprob| {worst:.2g}, "
        f"mean KL {kl:.2g}, top-1 agreement {top1:.2%}"
    )
