"""How fast nextok decodes: against optimum's ONNX runner, and 32 streams against one.

    python bench/decode_rate.py [--rounds 5] [--precision int8] [--checkpoint DIR] [--json FILE]

Needs the `server` and `export` extras. A seeded random GPT-2 124M (or the checkpoint given) is
exported; then the contenders take turns, round by round: optimum's ORTModelForCausalLM in this
process, one nextok stream, 32 nextok streams. nextok runs in a process of its own and is measured
at the client, through gRPC, with the 10 most likely candidates of every step; optimum without any.
Prompts have 64 tokens, outputs 128, greedy. The decode rate counts the tokens after the first
(for several streams: after the last stream's first) over the time that they took.

What is quoted is the median of the rounds' ratios; the spread is that of the ratios too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nextok import AsyncClient

PROMPT_TOKENS, OUTPUT_TOKENS, CANDIDATES = 64, 128, 10
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Rate:
    """One measurement: tokens a second while decoding, and over everything."""

    decode: float
    whole: float


def prompts(count: int) -> list[list[int]]:
    """Seeded random prompts, all different."""
    return np.random.default_rng(0).integers(0, 50256, (count, PROMPT_TOKENS)).tolist()


@contextlib.contextmanager
def server(artifact: Path, threads: int) -> Iterator[str]:
    """A nextok-server of its own; yields its address."""
    command = [sys.executable, "-m", "nextok_server", str(artifact), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--threads", str(threads), "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


async def nextok_rate(client: AsyncClient, streams: int) -> Rate:
    """Runs some streams at once and counts their tokens as they arrive."""
    arrivals: list[float] = []
    first: list[float] = []

    async def run(prompt: list[int]) -> None:
        generation = client.generate(
            prompt,
            temperature=0,
            max_tokens=OUTPUT_TOKENS,
            ignore_eos=True,
            top_logprobs=CANDIDATES,
        )
        async for step in generation:
            now = time.perf_counter()
            arrivals.append(now)
            if step.index == 0:
                first.append(now)

    started = time.perf_counter()
    await asyncio.gather(*(run(prompt) for prompt in prompts(streams)))
    begin, end = max(first), max(arrivals)
    assert len(arrivals) == streams * OUTPUT_TOKENS
    later = sum(arrival > begin for arrival in arrivals)
    return Rate(later / (end - begin), len(arrivals) / (end - started))


class Optimum:
    """ORTModelForCausalLM over optimum's own export of the same checkpoint."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        import onnxruntime
        from optimum.onnxruntime import ORTModelForCausalLM

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._model = ORTModelForCausalLM.from_pretrained(
            checkpoint, export=True, session_options=options
        )

    def rate(self) -> Rate:
        """One prompt, greedy; prefill is timed by a run of a single token."""
        import torch

        ids = torch.tensor(prompts(1))

        def seconds(tokens: int) -> float:
            started = time.perf_counter()
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=50256,
            )
            assert output.shape[1] == PROMPT_TOKENS + tokens
            return time.perf_counter() - started

        prefill, whole = seconds(1), seconds(OUTPUT_TOKENS)
        return Rate((OUTPUT_TOKENS - 1) / (whole - prefill), OUTPUT_TOKENS / whole)


async def measure(address: str, optimum: Optimum, rounds: int) -> dict[str, list[Rate]]:
    """All contenders once in every round, after one round to warm up."""
    rates: dict[str, list[Rate]] = {"optimum": [], "nextok_1": [], "nextok_32": []}
    async with AsyncClient(address) as client:
        for number in range(rounds + 1):
            found = {
                "optimum": optimum.rate(),
                "nextok_1": await nextok_rate(client, 1),
                "nextok_32": await nextok_rate(client, 32),
            }
            shown = "  ".join(f"{name} {rate.decode:.0f}" for name, rate in found.items())
            print(f"round {number or 'to warm up'}: {shown} tokens/s", flush=True)
            if number:
                for name, rate in found.items():
                    rates[name].append(rate)
    return rates


def ratio(rates: dict[str, list[Rate]], ours: str, theirs: str, kind: str) -> dict[str, float]:
    """Median, least and largest of the rounds' ratios."""
    pairs = zip(rates[ours], rates[theirs], strict=True)
    ratios = [getattr(a, kind) / getattr(b, kind) for a, b in pairs]
    return {"median": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}


def summarize(rates: dict[str, list[Rate]]) -> dict[str, Any]:
    """What was measured, as it goes into the JSON file."""
    return {
        "tokens_per_second": {
            name: {
                kind: statistics.median(getattr(rate, kind) for rate in found)
                for kind in ("decode", "whole")
            }
            for name, found in rates.items()
        },
        "ratios": {
            f"{ours} / {theirs}, {kind}": ratio(rates, ours, theirs, kind)
            for ours, theirs in (("nextok_1", "optimum"), ("nextok_32", "nextok_1"))
            for kind in ("decode", "whole")
        },
    }


def main() -> None:
    """Exports, measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--checkpoint", type=Path, help="default: a random GPT-2 124M")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or Path(folder, "checkpoint")
        if options.checkpoint is None:
            subprocess.run([sys.executable, HERE / "random_gpt2.py", checkpoint], check=True)
        artifact = Path(folder, "artifact")
        export = [sys.executable, "-m", "nextok_export", checkpoint, artifact]
        subprocess.run([*export, "--precision", options.precision], check=True)
        optimum = Optimum(checkpoint, options.threads)
        with server(artifact, options.threads) as address:
            rates = asyncio.run(measure(address, optimum, options.rounds))
    results = {
        "machine": {"processor": platform.processor() or platform.machine()}
        | {"threads": options.threads, "python": platform.python_version()},
        "versions": {
            name: version(name)
            for name in ("nextok", "onnxruntime", "optimum", "optimum-onnx", "torch", "grpcio")
        },
        "work": {"prompt_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS}
        | {"candidates": CANDIDATES, "precision": options.precision, "rounds": options.rounds},
        **summarize(rates),
    }
    for name, found in results["ratios"].items():
        print(f"{name}: {found['median']:.2f}  ({found['least']:.2f} to {found['largest']:.2f})")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
