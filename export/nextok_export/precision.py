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
OPERATORS: Final = ("nextok", "onnxruntime")
"""Whose operators a graph is made of: nextok's own kernels, or what ONNX Runtime brings."""
KERNELS: Final = 2
"""The version of nextok's operators that graphs are written for."""
GROUP: Final = 32
"""4-bit weights that share one scale in nextok's kernels."""


def check_options(
    name: str, block_size: int | None, cache: str | None, operators: str | None = None
) -> None:
    """Checks what a person asked for, before anything is known of the model.

    Raises:
        UsageError: names the option, its value and what is allowed.
    """
    if name not in BITS:
        raise UsageError(f"precision is {name!r}; allowed: {', '.join(BITS)}")
    if operators not in (None, *OPERATORS):
        raise UsageError(f"operators is {operators!r}; allowed: {', '.join(OPERATORS)}")
    if block_size is not None:
        sizes = _block_sizes(name, operators)
        if block_size not in sizes:
            allowed = ", ".join(map(str, sizes)) or "none"
            whose = f" with {operators}'s operators" if operators else ""
            raise UsageError(f"block size is {block_size}; allowed at {name}{whose}: {allowed}")
    if cache is not None:
        caches = CACHES if BITS[name] is not None else CACHES[:1]
        if cache not in caches:
            raise UsageError(f"cache is {cache!r}; allowed at {name}: {', '.join(caches)}")


def _block_sizes(name: str, operators: str | None) -> tuple[int, ...]:
    if BITS[name] is None:
        return ()
    if operators == "nextok":
        return (WHOLE_ROWS,) if name == "int8" else (GROUP,)
    return (WHOLE_ROWS, *BLOCK_SIZES) if name == "int8" else BLOCK_SIZES


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
        operators: whose operators the graph is made of, one of OPERATORS.
        narrow: whether the model is narrower than NARROW.
    """

    name: str
    block_size: int | None
    float_layers: bool = False
    vocabulary_rows: bool = False
    int8_cache: bool = False
    operators: str = OPERATORS[0]
    narrow: bool = False

    @classmethod
    def choose(
        cls,
        name: str,
        block_size: int | None = None,
        cache: str | None = None,
        operators: str | None = None,
        *,
        width: int,
    ) -> Self:
        """Fills in what was left open.

        Args:
            name: fp32, int8 or int4.
            block_size: weights that share one scale. None takes the default: at int8 WHOLE_ROWS,
                which many streams compute in half the time that blocks take; at int4 32, where
                the certificate gains most by it, with embedding and head in rows of 8 bits; 16
                for a narrow model at either, with ONNX Runtime's operators.
            cache: float32 or int8. None takes int8, except at fp32 and for a narrow model.
            operators: whose operators the graph is made of. None takes nextok's, unless a block
                size is given that only ONNX Runtime's have, or the model is narrow and to be
                rounded: small blocks leave it more exact, and it is fast in any case.
            width: size of the model's residual stream. Below NARROW, int8 leaves the layers in
                float32.

        Raises:
            UsageError: an option cannot be worked with.
        """
        check_options(name, block_size, cache, operators)
        narrow, given = width < NARROW, block_size is not None
        if operators is None:
            own = not given or block_size in _block_sizes(name, "nextok")
            exact = BITS[name] is None or not narrow
            operators = "nextok" if own and exact else "onnxruntime"
        if BITS[name] is None:
            return cls(name, None, operators=operators)
        if block_size is None:
            in_small_blocks = narrow and operators == "onnxruntime"
            block_size = 16 if in_small_blocks else WHOLE_ROWS if name == "int8" else GROUP
        return cls(
            name,
            block_size,
            float_layers=narrow and name == "int8",
            vocabulary_rows=operators == "nextok" or (not narrow and not given),
            int8_cache=cache == "int8" or (cache is None and not narrow),
            operators=operators,
            narrow=narrow,
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
    def head_activation_bits(self) -> int:
        """Bits that the head rounds its activations to, with nextok's operators.

        16 for a narrow model, whose sums are short; for others the head's products would take
        twice as long with many streams.
        """
        return 16 if self.narrow else 8

    @property
    def row_multiple(self) -> int:
        """What the number of rows of each product has to be a multiple of, for the same bits."""
        if self.operators == "nextok":
            return 1
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

    @property
    def kernels(self) -> int | None:
        """The version of nextok's operators that the graph needs, if any."""
        return KERNELS if self.operators == "nextok" else None
