"""A model whose distributions tell what its cache held: each is a digest of the tokens before it.

Wherever a slot held something else than it should, or a text was cut into calls otherwise, what
comes out is different. So is everything that was told of it.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from nextok_kernels.course import BatchChooser
from support.rows import row_of

from nextok_server.calls import Calls, OneCall, SeparateCalls
from nextok_server.engine import Engine
from nextok_server.kv_cache import KVCache
from nextok_server.layouts import Chunk
from nextok_server.model import Distributions, Tokens
from nextok_server.sampling import SamplingParams
from nextok_server.scheduler import Scheduler

VOCABULARY, K = 7, 5


class Cells:
    """For each slot and place: a digest of the text up to there and of how it was computed."""

    def __init__(self, slots: int) -> None:
        self.slots: list[list[bytes]] = [[] for _ in range(slots)]

    def write(self, slot: int, start: int, cells: list[bytes]) -> None:
        assert start <= len(self.slots[slot])
        self.slots[slot][start : start + len(cells)] = cells

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        assert source != target
        assert 0 <= start < stop <= len(self.slots[source])
        self.write(target, start, self.slots[source][start:stop])

    def discard(self, slot: int, start: int) -> None:
        del self.slots[slot][start:]


class FakeModel:
    """Stands in for `Model`.

    Args:
        slots: Sequences that the cache holds.
        cuts_freely: Whether it computes as graphs of nextok's own operators do.
        repeats: Whether it takes the tokens behind those of a step where these stood.

    Attributes:
        repeated: How many steps were such.
    """

    def __init__(self, slots: int, *, cuts_freely: bool, repeats: bool) -> None:
        self.slots = slots
        self.cells = Cells(slots)
        self.computed = 0
        self.top_k = K
        self.repeated = 0
        self._cuts_freely = cuts_freely
        self._repeats = repeats
        self._ids, self._positions = np.zeros(slots, np.int64), np.zeros(slots, np.int64)

    def forward(
        self,
        chunks: list[Chunk],
        inverse_temperature: list[float],
        *,
        logit_max: bool,
        temperature_mass: bool,
    ) -> Distributions:
        self._last = chunks, inverse_temperature, logit_max, temperature_mass
        rows = []
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        for chunk, inverse in zip(chunks, inverse_temperature, strict=True):
            self.computed += len(chunk.tokens)
            held = self.cells.slots[chunk.slot]
            assert chunk.start <= len(held)
            before = held[chunk.start - 1] if chunk.start else b""
            cells = []
            for column, token in enumerate(chunk.tokens):
                how = b"" if self._cuts_freely else bytes([column, len(chunk.tokens)])
                before = sha256(before + bytes([token]) + how).digest()
                cells.append(before)
            self.cells.write(chunk.slot, chunk.start, cells)
            rows += [self._row(cells[column], inverse) for column in chunk.wanted]
        # What was not asked for is not there.
        nothing = np.full(len(rows), np.nan, np.float32)
        self._told = Distributions(
            logprobs=np.array([row.logprobs for row in rows]).reshape(len(rows), VOCABULARY),
            top_logprobs=np.array([row.top_logprobs for row in rows]).reshape(len(rows), K),
            top_ids=np.array([row.top_ids for row in rows], np.int64).reshape(len(rows), K),
            entropy=np.array([row.entropy for row in rows], np.float32),
            logit_max=np.array([row.logit_max for row in rows]) if logit_max else nothing,
            temperature_mass=np.array([row.temperature_mass for row in rows], np.float32)
            if temperature_mass
            else nothing,
        )
        return self._told

    def tokens(self, rows: int) -> Tokens | None:
        if not self._repeats:
            return None
        return Tokens(self._ids[:rows], self._positions[:rows], self._told)

    def again(self, chooser: BatchChooser, most: int, seconds: float) -> Distributions:
        told = self._told
        chooser.begin(most, seconds)
        while True:
            self.repeated += 1
            self._compute_next()
            # Where the chooser looks.
            for name in ("logprobs", "top_logprobs", "top_ids", "entropy", "temperature_mass"):
                getattr(told, name)[:] = getattr(self._told, name)
            self._told = told
            if not chooser.advance():
                return told

    def _compute_next(self) -> None:
        """Computes what the inputs hold, all else as in the last call."""
        chunks, inverse_temperature, logit_max, temperature_mass = self._last
        tokens = zip(self._positions.tolist(), self._ids.tolist(), strict=True)
        chunks = [
            Chunk(chunk.slot, position, [token], range(1))
            for chunk, (position, token) in zip(chunks, tokens, strict=False)
        ]
        self.forward(
            chunks, inverse_temperature, logit_max=logit_max, temperature_mass=temperature_mass
        )

    @staticmethod
    def _row(cell: bytes, inverse: float):
        logits = np.frombuffer(cell[: VOCABULARY * 2], np.uint16) / 20_000
        return row_of(logits, SamplingParams(temperature=1 / inverse), K)


def fake_engine(
    *,
    slots: int,
    chunk: int,
    cuts_freely: bool,
    repeats: bool | None = None,
    reuse: bool = True,
    retained: int = 1000,
) -> tuple[Engine, FakeModel]:
    """An engine over a fake model of either kind."""
    kind: type[Calls] = OneCall if cuts_freely else SeparateCalls
    repeats = cuts_freely if repeats is None else repeats
    model = FakeModel(slots, cuts_freely=cuts_freely, repeats=repeats)
    cache = KVCache(slots, model.cells, retained)
    return Engine(model, Scheduler(cache, kind(chunk, slots), chunk, reuse=reuse)), model
