"""Measures a serving graph against the checkpoint, and decides whether it may be served.

Knows the scenarios, the references and the tolerance. Knows nothing of files other than the
graph's.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from nextok_export.checkpoint import Checkpoint
from nextok_export.comparison import Comparer, Comparison
from nextok_export.errors import CertificateError
from nextok_export.precision import Precision
from nextok_export.reference import OnnxReference, Reference, TorchReference
from nextok_export.scenarios import CHUNK, ROWS, Scenario, scenarios
from nextok_export.serving import ServingGraph
from nextok_export.texts import Texts

SCHEMA_VERSION: Final = 1
POSITIONS: Final = 2048
"""Positions that a certificate compares at least."""
TOLERANCE: Final = {"max_abs_logprob_difference": 1e-4, "top1_agreement": 1.0}
"""What fp32 has to keep to."""
_BLOCK_VALUES: Final = 1 << 19
"""Probabilities compared at a time: 4 MB of doubles, some ten positions of GPT-2."""
_POSITIONS_AT_A_TIME: Final = 64
"""Positions that references are asked for at once: the head's weights are read once for all."""


@dataclass(frozen=True)
class Certificate:
    """What was measured.

    Attributes:
        precision: of the served graph.
        comparisons: one for each scenario and reference.
    """

    precision: Precision
    comparisons: tuple[Comparison, ...]

    @property
    def positions(self) -> int:
        """Positions compared with torch, over all scenarios."""
        return sum(c.positions for c in self.comparisons if c.reference == "torch")

    @property
    def tolerance(self) -> dict[str, float] | None:
        """What the figures have to keep to; None where they are only told."""
        return None if self.precision.approximate else TOLERANCE

    def as_json(self) -> dict[str, Any]:
        """The content of certificate.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "precision": self.precision.name,
            "approximate": self.precision.approximate,
            "positions": self.positions,
            "tolerance": self.tolerance,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
        }

    def check(self) -> None:
        """Raises CertificateError where the graph must not be served."""
        for c in self.comparisons:
            where = f"{c.scenario} against {c.reference}, {c.positions} positions"
            if not all(math.isfinite(v) for v in asdict(c).values() if isinstance(v, float)):
                raise CertificateError(f"{where}: a log probability is not a finite number")
            if self.tolerance is None:
                continue
            worst, least = self.tolerance.values()
            if c.max_abs_logprob_difference > worst:
                raise CertificateError(
                    f"{where}: max_abs_logprob_difference is {c.max_abs_logprob_difference:.3g}; "
                    f"allowed at {self.precision.name}: at most {worst:g}"
                )
            if c.top1_agreement < least:
                raise CertificateError(
                    f"{where}: top1_agreement is {c.top1_agreement:.5f}; "
                    f"allowed at {self.precision.name}: {least:g}"
                )


@dataclass(frozen=True)
class References:
    """The two oracles.

    Attributes:
        model: the checkpoint in torch; `certify` leaves it in float64.
        graph: optimum's portable graph.
    """

    model: Any
    graph: Path


def certify(
    graph: Path,
    checkpoint: Checkpoint,
    precision: Precision,
    references: References,
    tokenizer: Any,
    *,
    positions: int = POSITIONS,
    tell: Callable[[str], None] = lambda _: None,
) -> Certificate:
    """Plays every scenario on the serving graph and on the references.

    Args:
        graph: model.onnx.
        checkpoint: what it was made from.
        precision: of its weights.
        references: what to compare with.
        tokenizer: the checkpoint's `tokenizers.Tokenizer`.
        positions: how many positions to compare at least.
        tell: hears what is being done.
    """
    # In float64: in float32 torch rounds as much as the graph, and otherwise on each processor.
    references.model.double()
    a = checkpoint.architecture
    supply = Texts(tokenizer, a.vocabulary_size)
    kernels = precision.operators == "nextok"
    serving = ServingGraph(graph, a, rows=ROWS, chunk=CHUNK, kernels=kernels)
    comparisons: list[Comparison] = []
    for scenario in scenarios(supply, a.context_length, positions):
        tell(scenario.name.replace("_", " "))
        comparisons += _play(scenario, serving, references)
    return Certificate(precision, tuple(comparisons))


def _play(scenario: Scenario, serving: ServingGraph, references: References) -> list[Comparison]:
    oracles: dict[str, Reference] = {"torch": TorchReference(references.model, scenario.texts)}
    if scenario.prompt is not None:
        oracles["onnx"] = OnnxReference(references.graph, scenario.texts, scenario.prompt)
    comparers = {name: Comparer(scenario.name, name) for name in oracles}
    with _one_thread():
        for text, start, said in scenario.play(serving, scenario.texts):
            ids = torch.from_numpy(scenario.texts[text])
            for offset in range(0, len(said), _POSITIONS_AT_A_TIME):
                part = torch.from_numpy(said[offset : offset + _POSITIONS_AT_A_TIME]).double()
                first = start + offset
                following = ids[first + 1 : first + len(part) + 1]
                for name, oracle in oracles.items():
                    expected = oracle.logprobs(text, first, first + len(part))
                    _compare(comparers[name], expected, part, following)
    return [comparer.finish() for comparer in comparers.values()]


def _compare(
    comparer: Comparer, expected: torch.Tensor, served: torch.Tensor, following: torch.Tensor
) -> None:
    """Compares a few positions at a time, whose probabilities stay in the processor's caches."""
    block = max(1, _BLOCK_VALUES // expected.shape[1])
    for start in range(0, len(expected), block):
        some = slice(start, start + block)
        comparer.add(expected[some], served[some], following[some])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps torch to one thread: on blocks this small several wait longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
