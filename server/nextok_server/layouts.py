"""How the tokens of a step are laid out as the inputs of a graph.

Knows: the two kinds of graphs of docs/artifact.md, and their inputs. Does not know: ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Inputs = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one cache row to compute.

    Attributes:
        slot: Row of the cache.
        start: Place of the first token in its text.
        tokens: Valid tokens, none for an idle row.
        wanted: Columns whose distribution is wanted; that of a single token always is.
    """

    slot: int
    start: int
    tokens: list[int]
    wanted: range = range(0)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the bindings of a step depend on.

    Attributes:
        first: First slot whose cache is bound, `rows` of them.
        length: Tokens of a row, or of all together, as the layout has it.
        results: Positions whose distribution is computed.
    """

    first: int
    rows: int
    length: int
    results: int


class Layout(Protocol):
    """Fills the inputs.

    Attributes:
        inputs: The buffers, by name.
        repeats: Whether after a step of single tokens those behind them need nothing but their ids
            and positions, each where the one before stood.
    """

    inputs: Inputs
    repeats: bool

    def fill(self, chunks: list[Chunk], inverse_temperature: list[float]) -> Shape:
        """Chunks by slot, with the distributions that each wants."""

    def shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """The sizes of each input."""


class FlatLayout:
    """For graphs of nextok's own operators: all tokens one after the other, each with its slot.

    Args:
        slots: Sequences that the cache holds.
        tokens: Most tokens of a step.
    """

    repeats = True

    def __init__(self, slots: int, tokens: int) -> None:
        self._slots = slots
        self.inputs: Inputs = {
            "input_ids": np.zeros(tokens, np.int64),
            "position_ids": np.zeros(tokens, np.int64),
            "slots": np.zeros(tokens, np.int32),
            "logits_index": np.zeros(tokens, np.int64),
            "inverse_temperature": np.ones(tokens, np.float32),
        }

    def fill(self, chunks: list[Chunk], inverse_temperature: list[float]) -> Shape:
        """See Layout."""
        count = len(chunks)
        if all(len(chunk.tokens) == 1 for chunk in chunks):
            self._fill_singles(chunks)
            self.inputs["inverse_temperature"][:count] = inverse_temperature
            return Shape(0, self._slots, count, count)
        return self._fill_chunks(chunks, inverse_temperature)

    def _fill_singles(self, chunks: list[Chunk]) -> None:
        """One token of each chunk: most steps, so without a loop over them."""
        inputs, count = self.inputs, len(chunks)
        inputs["input_ids"][:count] = [chunk.tokens[0] for chunk in chunks]
        inputs["position_ids"][:count] = [chunk.start for chunk in chunks]
        inputs["slots"][:count] = [chunk.slot for chunk in chunks]
        inputs["logits_index"][:count] = range(count)

    def _fill_chunks(self, chunks: list[Chunk], inverse_temperature: list[float]) -> Shape:
        # Gathered in lists: a step with drafts has many short chunks, and an assignment to a part
        # of an array takes as long as one to all of it.
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        wanted: list[int] = []
        inverses: list[float] = []
        for chunk, inverse in zip(chunks, inverse_temperature, strict=True):
            first, length = len(ids), len(chunk.tokens)
            ids += chunk.tokens
            positions += range(chunk.start, chunk.start + length)
            slots += [chunk.slot] * length
            wanted += [first + column for column in chunk.wanted]
            inverses += [inverse] * len(chunk.wanted)
        if not wanted:  # a graph gives one distribution at least
            wanted, inverses = [0], [1.0]
        inputs, total, results = self.inputs, len(ids), len(wanted)
        inputs["input_ids"][:total] = ids
        inputs["position_ids"][:total] = positions
        inputs["slots"][:total] = slots
        inputs["logits_index"][:results] = wanted
        inputs["inverse_temperature"][:results] = inverses
        return Shape(0, self._slots, total, results)

    def shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """See Layout."""
        tokens, results = (shape.length,), shape.results
        return {
            "input_ids": tokens,
            "position_ids": tokens,
            "slots": tokens,
            "logits_index": (results,),
            "inverse_temperature": (results, 1),
        }


class PaddedLayout:
    """For graphs of ONNX Runtime's operators: a row for each slot, all as long as the longest.

    Rows are bound from one slot to another; those between that have no chunk stay idle.

    Args:
        slots: Sequences that the cache holds.
        tokens: Most tokens of a step.
        multiple: What the rows of each product are padded to a multiple of; see docs/artifact.md.
    """

    repeats = False

    def __init__(self, slots: int, tokens: int, multiple: int) -> None:
        self._multiple = multiple
        self.inputs: Inputs = {
            "input_ids": np.zeros(tokens, np.int64),
            "position_ids": np.zeros(tokens, np.int64),
            "query_seqlens": np.zeros(slots, np.int32),
            "seqlens_k": np.zeros(slots, np.int32),
            "total_sequence_length": np.zeros(1, np.int32),
            "logits_index": np.zeros(tokens, np.int64),
            "inverse_temperature": np.ones(tokens, np.float32),
        }

    def fill(self, chunks: list[Chunk], inverse_temperature: list[float]) -> Shape:
        """See Layout."""
        if all(len(chunk.tokens) == 1 for chunk in chunks):
            return self._fill_singles(chunks, inverse_temperature)
        return self._fill_chunks(chunks, inverse_temperature)

    def _fill_singles(self, chunks: list[Chunk], inverse_temperature: list[float]) -> Shape:
        """One token of each chunk, in the rows from the first slot on."""
        rows = self._padded(chunks[-1].slot + 1)
        inputs = self.inputs
        inputs["query_seqlens"][:rows] = 0
        inputs["seqlens_k"][:rows] = 0
        inputs["input_ids"][:rows] = 0
        inputs["position_ids"][:rows] = 0
        for index, chunk in enumerate(chunks):
            slot = chunk.slot
            inputs["input_ids"][slot] = chunk.tokens[0]
            inputs["position_ids"][slot] = chunk.start
            inputs["query_seqlens"][slot] = 1
            inputs["seqlens_k"][slot] = chunk.start
            inputs["logits_index"][index] = slot
        inputs["total_sequence_length"][0] = max(chunk.start for chunk in chunks) + 1
        wanted = len(chunks)
        results = self._padded(wanted)
        inputs["logits_index"][wanted:results] = chunks[0].slot
        inputs["inverse_temperature"][:wanted] = inverse_temperature
        return Shape(0, rows, 1, results)

    def _fill_chunks(self, chunks: list[Chunk], inverse_temperature: list[float]) -> Shape:
        first, rows = chunks[0].slot, chunks[-1].slot - chunks[0].slot + 1
        padded = self._padded(max(len(chunk.tokens) for chunk in chunks))
        inputs, size = self.inputs, rows * padded
        ids = inputs["input_ids"][:size].reshape(rows, padded)
        positions = inputs["position_ids"][:size].reshape(rows, padded)
        for array in (ids, positions, inputs["query_seqlens"][:rows], inputs["seqlens_k"][:rows]):
            array[...] = 0
        wanted = 0
        for chunk, inverse in zip(chunks, inverse_temperature, strict=True):
            row, length = chunk.slot - first, len(chunk.tokens)
            end = chunk.start + length
            ids[row, :length] = chunk.tokens
            positions[row, :length] = np.arange(chunk.start, end)
            inputs["query_seqlens"][row] = length
            inputs["seqlens_k"][row] = end - 1
            columns = slice(wanted, wanted + len(chunk.wanted))
            inputs["logits_index"][columns] = np.asarray(chunk.wanted, np.int64) + row * padded
            inputs["inverse_temperature"][columns] = inverse
            wanted = columns.stop
        longest = max(chunk.start + len(chunk.tokens) for chunk in chunks)
        inputs["total_sequence_length"][0] = max(longest, padded)
        results = self._padded(max(wanted, 1))
        inputs["logits_index"][wanted:results] = 0
        return Shape(first, rows, padded, results)

    def shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """See Layout."""
        rows, tokens = (shape.rows,), (shape.rows, shape.length)
        return {
            "input_ids": tokens,
            "position_ids": tokens,
            "query_seqlens": rows,
            "seqlens_k": rows,
            "total_sequence_length": (),
            "logits_index": (shape.results,),
            "inverse_temperature": (shape.results, 1),
        }

    def _padded(self, rows: int) -> int:
        return -(-rows // self._multiple) * self._multiple
