"""How the weights and the cache of an artifact are stored."""

from dataclasses import dataclass
from typing import Final, Self

from nextok_export.errors import UsageError
from nextok_export.quantize import BLOCK_SIZES

NARROW: Final = 256
"""Width below which a model's layers are so small that int8 would only cost exactness.

Their matrices stay in the processor's cache as they are, and its sums are too short for rounding
errors to average out. Measured on the bundled checkpoint, of width 160, with layers at int8: the
same top token at 97.6 % of the positions with blocks of 32, at 98.1 % with blocks of 16.
"""

BITS: Final[dict[str, int | None]] = {"fp32": None, "int8": 8, "int4": 4}
WHOLE_ROWS: Final = 0
"""The block size that stands for one scale for all weights of an output."""
CACHES: Final = ("float32", "int8")


def check_options(name: str, block_size: int | None, cache: str | None) -> None:
    """Checks what a person asked for, before anything is known of the model.

    Raises:
        UsageError: names the option, its value and what is allowed.
    """
    if name not in BITS:
        raise UsageError(f"precision is {name!r}; allowed: {', '.join(BITS)}")
    if block_size is not None:
        sizes = (WHOLE_ROWS, *BLOCK_SIZES) if name == "int8" else BLOCK_SIZES
        allowed = "none" if BITS[name] is None else ", ".join(map(str, sizes))
        if BITS[name] is None or block_size not in sizes:
            raise UsageError(f"block size is {block_size}; allowed at {name}: {allowed}")
    if cache is not None:
        caches = CACHES if BITS[name] is not None else CACHES[:1]
        if cache not in caches:
            raise UsageError(f"cache is {cache!r}; allowed at {name}: {', '.join(caches)}")


@dataclass(frozen=True)
class Precision:
    """How weights are stored, and keys and values of the texts that are worked on.

    Attributes:
        name: fp32, int8 or int4.
        block_size: weights that share one scale, WHOLE_ROWS for all of an output; None at fp32.
        float_layers: whether the layers' products stay in float32, and only the embedding and
            the head are quantized.
        vocabulary_rows: whether embedding and head have one scale a token, whatever the layers
            have.
        int8_cache: whether keys and values are kept in 8 bits instead of float32.
    """

    name: str
    block_size: int | None
    float_layers: bool = False
    vocabulary_rows: bool = False
    int8_cache: bool = False

    @classmethod
    def choose(
        cls,
        name: str,
        block_size: int | None = None,
        cache: str | None = None,
        *,
        width: int,
    ) -> Self:
        """Fills in what was left open.

        Args:
            name: fp32, int8 or int4.
            block_size: weights that share one scale. None takes the default: at int8 WHOLE_ROWS,
                which many streams compute in half the time that blocks take; at int4 32, where
                the certificate gains most by it, with embedding and head in rows of 8 bits; 16
                for a narrow model at either.
            cache: float32 or int8. None takes int8, except at fp32 and for a narrow model.
            width: size of the model's residual stream. Below NARROW, int8 leaves the layers in
                float32.

        Raises:
            UsageError: an option cannot be worked with.
        """
        check_options(name, block_size, cache)
        if BITS[name] is None:
            return cls(name, None)
        narrow, given = width < NARROW, block_size is not None
        if block_size is None:
            block_size = 16 if narrow else WHOLE_ROWS if name == "int8" else 32
        return cls(
            name,
            block_size,
            float_layers=narrow and name == "int8",
            vocabulary_rows=not narrow and not given,
            int8_cache=cache == "int8" or (cache is None and not narrow),
        )

    @property
    def layer_bits(self) -> int | None:
        """Bits of a weight in the layers' products; None for float32."""
        return None if self.float_layers else BITS[self.name]

    @property
    def vocabulary_bits(self) -> int | None:
        """Bits of a weight in the embedding and in the head; None at fp32.

        Never fewer than 8: the head's rounding reaches the probabilities undamped. On a random
        model of 6 layers and width 160, int4 layers with a head of 4 bits gave a mean KL of 0.70,
        with one of 8 bits 0.50.
        """
        return None if BITS[self.name] is None else 8

    @property
    def vocabulary_block_size(self) -> int | None:
        """Weights of the embedding and the head that share one scale."""
        return WHOLE_ROWS if self.vocabulary_rows else self.block_size

    @property
    def row_multiple(self) -> int:
        """What the number of rows of each product has to be a multiple of, for the same bits."""
        return 1 if self.block_size == WHOLE_ROWS and not self.float_layers else 2

    @property
    def cache(self) -> str:
        """What keys and values are kept in."""
        return CACHES[self.int8_cache]

    @property
    def approximate(self) -> bool:
        """Whether the probabilities differ from the checkpoint's by more than float32 rounding."""
        return BITS[self.name] is not None

    def __str__(self) -> str:
        if self.block_size is None:
            return self.name
        weights = f"blocks of {self.block_size}" if self.block_size else "whole rows"
        return f"{self.name}, {weights}, {self.cache} cache"
