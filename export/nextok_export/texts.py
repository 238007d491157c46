"""The texts that the certificate is measured on.

A page of English prose, written for this purpose, and random tokens from a fixed seed: the prose
shows what a person would see, the random tokens reach the parts of a model that no prose does.
"""

from importlib.resources import files
from typing import Any

import numpy as np

from nextok_export.serving import Ids

_SEED = 20_190_214
_RANDOM_EVERY = 4
"""One text in this many is random tokens."""


class Texts:
    """An endless supply of token texts, the same at every run."""

    def __init__(self, tokenizer: Any, vocabulary_size: int) -> None:
        """Tokenizes the prose with the checkpoint's own `tokenizers.Tokenizer`."""
        prose = files("nextok_export").joinpath("prose.txt").read_text(encoding="utf-8")
        self._prose = np.array(tokenizer.encode(prose).ids, np.int64)
        self._vocabulary_size = vocabulary_size
        self._random = np.random.default_rng(_SEED)
        self._given = 0
        self._place = 0

    def take(self, length: int) -> Ids:
        """The next text, of so many tokens. Prose goes on where it ended, round and round."""
        self._given += 1
        if self._given % _RANDOM_EVERY == 0:
            return self._random.integers(0, self._vocabulary_size, length)
        window = (self._place + np.arange(length)) % len(self._prose)
        self._place += length
        ids: Ids = self._prose[window]
        return ids
