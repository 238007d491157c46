"""The ways in which a server drives the graph, each played on texts of its own.

Knows the serving graph's steps. Knows nothing of what the numbers are compared with.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from nextok_export.quantize import FloatArray
from nextok_export.serving import Ids, ServingGraph
from nextok_export.texts import Texts

CHUNK: Final = 128
"""Most tokens of a row in one step."""
ROWS: Final = 8
"""Texts that are held at once."""
_SMALL_CHUNK: Final = 48
_PROMPT: Final = 24
_DECODE_STEPS: Final = 64
_DECODED: Final = 5
"""Texts that are decoded side by side; an odd number, so that one row idles."""

Block = tuple[int, int, FloatArray]
"""A text's number, a position in it, and the log probabilities [n, V] after it and those next."""


@dataclass(frozen=True)
class Scenario:
    """One way of driving the graph, with the texts that it is played on.

    Attributes:
        name: as in certificate.json.
        texts: token ids.
        play: runs the serving graph over the texts and yields what it says.
        prompt: where optimum's graph can play it too, the tokens of its first pass, else None.
    """

    name: str
    texts: tuple[Ids, ...]
    play: Callable[[ServingGraph, tuple[Ids, ...]], Iterator[Block]]
    prompt: int | None = None


def scenarios(supply: Texts, context: int, positions: int) -> list[Scenario]:
    """Plans what is compared.

    Args:
        supply: where texts come from.
        context: the model's context length.
        positions: how many positions to compare at least, over all scenarios.
    """
    whole, long, ragged = min(context, CHUNK), min(context, 2 * CHUNK), min(context, 60)
    prompt = min(_PROMPT, max(1, context // 4))
    steps = min(context - prompt, max(_DECODE_STEPS, positions // (5 * _DECODED)))
    tail = max(1, min(context // 2, CHUNK))

    def texts(share: float, length: int, scored: int) -> tuple[Ids, ...]:
        """Enough texts of a length for a share of the positions."""
        return tuple(supply.take(length) for _ in range(math.ceil(positions * share / scored)))

    # Where the context is too short for many steps of decode, more is prefilled.
    missing = max(0.0, 0.2 - _DECODED * (steps + 1) / positions)
    decoded = tuple(supply.take(prompt + steps) for _ in range(_DECODED))
    return [
        Scenario("prefill", texts(0.3 + missing, whole, whole), _prefill, prompt=whole),
        Scenario("chunked_prefill", texts(0.25, long, long), _chunked_prefill),
        Scenario("decode", decoded, _decode(prompt), prompt=prompt),
        Scenario("padded_batch", texts(0.15, ragged, ragged), _padded_batch),
        Scenario("context_end", texts(0.1, context, tail), _context_end(tail)),
    ]


def _prefill(graph: ServingGraph, texts: tuple[Ids, ...]) -> Iterator[Block]:
    """Each text in one step."""
    for number, ids in enumerate(texts):
        graph.reset()
        yield number, 0, graph.step([ids], [(0, column) for column in range(len(ids))])


def _chunked_prefill(graph: ServingGraph, texts: tuple[Ids, ...]) -> Iterator[Block]:
    """Each text in chunks, the last one as long as is left."""
    for number, ids in enumerate(texts):
        graph.reset()
        for start in range(0, len(ids), _SMALL_CHUNK):
            chunk = ids[start : start + _SMALL_CHUNK]
            yield number, start, graph.step([chunk], [(0, c) for c in range(len(chunk))])


def _decode(prompt: int) -> Callable[[ServingGraph, tuple[Ids, ...]], Iterator[Block]]:
    """All texts side by side: their prompts in one step, then a token each, step by step."""

    def play(graph: ServingGraph, texts: tuple[Ids, ...]) -> Iterator[Block]:
        graph.reset()
        rows = range(len(texts))
        said = [graph.step([ids[:prompt] for ids in texts], [(row, prompt - 1) for row in rows])]
        for place in range(prompt, len(texts[0])):
            chunks = [ids[place : place + 1] for ids in texts]
            said.append(graph.step(chunks, [(row, 0) for row in rows]))
        for row in rows:
            yield row, prompt - 1, np.stack([step[row] for step in said])

    return play


def _padded_batch(graph: ServingGraph, texts: tuple[Ids, ...]) -> Iterator[Block]:
    """Texts side by side in chunks of their own lengths; some rows idle, some decode."""
    lengths = (7, 0, 1, 20, 3, 0, 12, 1)
    for first in range(0, len(texts), ROWS):
        graph.reset()
        batch = texts[first : first + ROWS]
        turn = 0
        while any(graph.held[row] < len(ids) for row, ids in enumerate(batch)):
            starts = [int(graph.held[row]) for row in range(len(batch))]
            chunks = [
                ids[starts[row] : starts[row] + lengths[(row + turn) % len(lengths)]]
                for row, ids in enumerate(batch)
            ]
            turn += 1
            if not any(len(chunk) for chunk in chunks):
                continue
            wanted = [(row, c) for row, chunk in enumerate(chunks) for c in range(len(chunk))]
            logprobs, offset = graph.step(chunks, wanted), 0
            for row, chunk in enumerate(chunks):
                if len(chunk):
                    yield first + row, starts[row], logprobs[offset : offset + len(chunk)]
                offset += len(chunk)


def _context_end(tail: int) -> Callable[[ServingGraph, tuple[Ids, ...]], Iterator[Block]]:
    """Texts that fill the context: the last positions in a chunk, the very last decoded."""

    def play(graph: ServingGraph, texts: tuple[Ids, ...]) -> Iterator[Block]:
        for number, ids in enumerate(texts):
            graph.reset()
            first, middle = len(ids) - tail, len(ids) - min(16, tail // 2)
            for start in range(0, first, CHUNK):
                graph.step([ids[start : min(start + CHUNK, first)]], [])
            columns = [(0, column) for column in range(middle - first)]
            said = [graph.step([ids[first:middle]], columns)]
            said += [graph.step([ids[p : p + 1]], [(0, 0)]) for p in range(middle, len(ids))]
            yield number, first, np.concatenate(said)

    return play
