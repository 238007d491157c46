"""How the weights of an artifact are stored."""

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


def check_options(name: str, block_size: int | None) -> None:
    """Checks what a person asked for, before anything is known of the model.

    Raises:
        UsageError: names the option, its value and what is allowed.
    """
    if name not in BITS:
        raise UsageError(f"precision is {name!r}; allowed: {', '.join(BITS)}")
    if block_size is not None and BITS[name] is None:
        raise UsageError(f"block size is {block_size}; allowed at {name}: none")
    if block_size is not None and block_size not in BLOCK_SIZES:
        allowed = ", ".join(map(str, BLOCK_SIZES))
        raise UsageError(f"block size is {block_size}; allowed: {allowed}")


@dataclass(frozen=True)
class Precision:
    """How weights are stored.

    Attributes:
        name: fp32, int8 or int4.
        block_size: weights that share one scale; None at fp32.
        float_layers: whether the layers' products stay in float32, and only the embedding and
            the head are quantized.
    """

    name: str
    block_size: int | None
    float_layers: bool = False

    @classmethod
    def choose(cls, name: str, block_size: int | None = None, *, width: int) -> Self:
        """Fills in what was left open.

        Args:
            name: fp32, int8 or int4.
            block_size: weights that share one scale; None takes the default: 32 at int4, where
                the certificate gains most by it; at int8 64, which is as fast as larger blocks,
                or 32 where 64 does not divide the width and would be padded; 16 for a narrow
                model at either.
            width: size of the model's residual stream. Below NARROW, int8 leaves the layers in
                float32.
        """
        check_options(name, block_size)
        if BITS[name] is None:
            return cls(name, None)
        narrow = width < NARROW
        if block_size is None:
            block_size = 16 if narrow else 64 if name == "int8" and width % 64 == 0 else 32
        return cls(name, block_size, float_layers=narrow and name == "int8")

    @property
    def bits(self) -> int | None:
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
    def approximate(self) -> bool:
        """Whether the probabilities differ from the checkpoint's by more than float32 rounding."""
        return BITS[self.name] is not None

    def __str__(self) -> str:
        return self.name if self.block_size is None else f"{self.name}, blocks of {self.block_size}"
