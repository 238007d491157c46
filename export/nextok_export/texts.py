"""The texts that the certificate is measured on, and those that it is calibrated on.

Pages written for this purpose, and random tokens from a fixed seed: the pages show what a person
would see, the random tokens reach the parts of a model that no prose does. The certificate and
the calibration have no page in common.
"""

from importlib.resources import files
from typing import Any

import numpy as np

from nextok_export.serving import Ids

_SEED, _CALIBRATION_SEED = 20_190_214, 20_190_215
_RANDOM_EVERY = 4
"""One text in this many is random tokens."""


class Texts:
    """An endless supply of token texts, the same at every run."""

    def __init__(self, tokenizer: Any, vocabulary_size: int) -> None:
        """Tokenizes the prose with the checkpoint's own `tokenizers.Tokenizer`."""
        self._prose = _page("prose.txt", tokenizer)
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


def calibration_texts(tokenizer: Any, vocabulary_size: int, context: int) -> list[Ids]:
    """Texts that show how large activations get: a mixed page, and random tokens.

    Each is as long as the context, where the page does not end before.
    """
    random = np.random.default_rng(_CALIBRATION_SEED)
    page = _page("calibration.txt", tokenizer)
    parts = [page[start : start + context] for start in range(0, len(page), context)]
    return parts + [random.integers(0, vocabulary_size, context) for _ in range(2)]


def _page(name: str, tokenizer: Any) -> Ids:
    text = files("nextok_export").joinpath(name).read_text(encoding="utf-8")
    return np.array(tokenizer.encode(text).ids, np.int64)
