"""Where a step's time goes, by rows and by context, for an artifact of nextok's own operators.

    python -m bench.step_times ARTIFACT [--threads 2]

The bare model, one token a row, with everything that ten candidates of a greedy request need. The
whole step is timed without the profiler; the parts are what ONNX Runtime's profile and the
operators themselves say of other runs, whose own cost is left out by scaling them to the whole.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nextok_kernels

from nextok_server.artifact import Artifact, load_artifact
from nextok_server.model import Chunk, Model

POINTS = (
    *((rows, 100) for rows in (1, 2, 4, 8, 16, 32, 64)),
    *((rows, context) for rows in (1, 32) for context in (64, 250, 500, 1000)),
)
PARTS = ("products", "head", "attention", "probabilities", "rest")
WARM_UP, RUNS = 10, 60


def main() -> None:
    """Prints a line for each point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    artifact = load_artifact(arguments.artifact)
    print("| rows | context | step, ms | " + " | ".join(PARTS) + " |")
    print("|" + "--:|" * (3 + len(PARTS)))
    for rows, context in POINTS:
        whole = step_seconds(artifact, rows, context, arguments.threads)
        parts = step_parts(artifact, rows, context, arguments.threads)
        scale = whole / sum(parts.values())
        cells = [f"{1e3 * scale * parts[part]:.2f}" for part in PARTS]
        print(f"| {rows} | {context} | {1e3 * whole:.2f} | " + " | ".join(cells) + " |", flush=True)


def step_seconds(artifact: Artifact, rows: int, context: int, threads: int) -> float:
    """The median time of a step."""
    seconds = list(_steps(_model(artifact, rows, threads), rows, context))
    return statistics.median(seconds[WARM_UP:])


def step_parts(artifact: Artifact, rows: int, context: int, threads: int) -> dict[str, float]:
    """The seconds that each part takes, in all runs together."""
    with tempfile.TemporaryDirectory() as folder:
        model = _model(artifact, rows, threads, profile=Path(folder) / "profile")
        before = nextok_kernels.seconds_spent()
        for _ in _steps(model, rows, context):
            pass
        after = nextok_kernels.seconds_spent()
        events = json.loads(model.end_profile().read_text(encoding="utf-8"))
    nodes = [event for event in events if event["name"].endswith("_kernel_time")]
    whole = sum(event["dur"] for event in nodes) / 1e6
    # The head is the last product of each run.
    last = max(
        (e["name"] for e in nodes if e["args"]["op_name"].startswith("Linear")),
        key=lambda name: int(name.split("_")[-3]),
    )
    head = sum(event["dur"] for event in nodes if event["name"] == last) / 1e6
    told = [e["dur"] for e in nodes if e["args"]["op_name"] == "Probabilities"]
    products, attention = (b - a for a, b in zip(before, after, strict=True))
    parts = {
        "products": products - head,
        "head": head,
        "attention": attention,
        "probabilities": sum(told) / 1e6,
    }
    return parts | {"rest": whole - sum(parts.values())}


def _model(artifact: Artifact, rows: int, threads: int, profile: Path | None = None) -> Model:
    return Model(
        artifact,
        slots=rows,
        chunk=64,
        tokens=max(64, rows),
        threads=threads,
        spinning=True,
        profile=profile,
    )


def _steps(model: Model, rows: int, context: int) -> Iterator[float]:
    """Computes a token of each row, again and again."""
    # What the cache holds does not matter, but it has to be there: memory that nobody wrote to is
    # one page of zeros, which no cache of the processor's loses.
    for array in model.cache.arrays.values():
        array[:rows, :, :context] = 1
    chunks = [Chunk(slot, context, [11 + slot], range(1)) for slot in range(rows)]
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        model.forward(chunks, [1.0] * rows, logit_max=False, temperature_mass=False)
        yield time.perf_counter() - start


if __name__ == "__main__":
    main()
