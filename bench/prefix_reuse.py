"""How much sooner requests that share a prefix get their first tokens.

    python bench/prefix_reuse.py ARTIFACT [--rounds 5] [--shared 400] [--own 16] [--output 16]
        [--json FILE]

32 requests arrive at once: 400 tokens that they share, 16 of their own, outputs of 16 tokens. Every
round sends them twice, with a prefix that no round before it had: once with reuse, once with
`bypass_prefix_reuse`. Which comes first changes from round to round. The time to a first token
is taken at the client, through gRPC, from when all were sent. What is quoted is the median of the
rounds' ratios; the spread is that of the ratios too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from decode_rate import server

from nextok import AsyncClient

REQUESTS = 32
KINDS = ("mean", "median", "last")


async def first_tokens(
    client: AsyncClient, prompts: list[list[int]], output: int, *, bypass: bool
) -> dict[str, float]:
    """Seconds to the first tokens of prompts that are sent at once."""
    started = time.perf_counter()
    seconds: list[float] = []

    async def run(prompt: list[int]) -> None:
        generation = client.generate(
            prompt,
            temperature=0,
            max_tokens=output,
            ignore_eos=True,
            top_logprobs=10,
            bypass_prefix_reuse=bypass,
        )
        async for step in generation:
            if step.index == 0:
                seconds.append(time.perf_counter() - started)

    await asyncio.gather(*(run(prompt) for prompt in prompts))
    assert len(seconds) == len(prompts)
    found = (statistics.mean(seconds), statistics.median(seconds), max(seconds))
    return dict(zip(KINDS, found, strict=True))


async def measure(address: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both ways in every round, after one round to warm up."""
    random = np.random.default_rng(0)
    results: list[dict[str, Any]] = []
    async with AsyncClient(address) as client:
        for number in range(options.rounds + 1):
            result: dict[str, Any] = {}
            for name in ("reuse", "bypass")[:: 1 if number % 2 else -1]:
                prefix = random.integers(0, 50256, options.shared).tolist()
                own = random.integers(0, 50256, (REQUESTS, options.own)).tolist()
                prompts = [[*prefix, *tokens] for tokens in own]
                bypass = name == "bypass"
                result[name] = await first_tokens(client, prompts, options.output, bypass=bypass)
            result["ratio"] = {k: result["bypass"][k] / result["reuse"][k] for k in KINDS}
            shown = "  ".join(
                f"{name} {' '.join(f'{result[name][kind]:.2f}' for kind in KINDS)}"
                for name in ("reuse", "bypass", "ratio")
            )
            print(f"round {number or 'to warm up'} ({', '.join(KINDS)}): {shown}", flush=True)
            if number:
                results.append(result)
    return results


def main() -> None:
    """Serves, measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shared", type=int, default=400)
    parser.add_argument("--own", type=int, default=16)
    parser.add_argument("--output", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    with server(options.artifact, options.threads) as address:
        results = asyncio.run(measure(address, options))
    for kind in KINDS:
        ratios = [result["ratio"][kind] for result in results]
        median = statistics.median(ratios)
        print(f"{kind}: {median:.2f} times sooner ({min(ratios):.2f} to {max(ratios):.2f})")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
