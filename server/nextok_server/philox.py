"""Random numbers that are a function of their place, with no state to keep.

Philox4x64-10 from J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as
1, 2, 3" (SC 2011), in Python integers: for one number at a time that is faster than to construct
a NumPy generator.
"""

_MASK = (1 << 64) - 1
# The paper's multipliers, and the Weyl steps of the key: the golden ratio and sqrt(3) - 1.
_MULTIPLIER_0 = 0xD2E7470EE14C6C93
_MULTIPLIER_1 = 0xCA5A826395121157
_WEYL_0 = 0x9E3779B97F4A7C15
_WEYL_1 = 0xBB67AE8584CAA73B
_ROUNDS = 10


def uniform(seed: int, position: int, stream: int = 0) -> float:
    """The uniform number that belongs to a seed and a position.

    Equals `numpy.random.Generator(numpy.random.Philox(key=[seed, stream],
    counter=position)).random()`.

    Args:
        seed: 64 bits, unsigned.
        position: of the token, 0 or more.
        stream: which of several completions with one seed, 0 or more.

    Returns:
        A multiple of 2**-53 in [0, 1).
    """
    key_0, key_1 = seed & _MASK, stream & _MASK
    # NumPy counts up before each block; so does this, so that both give the same numbers.
    c0, c1, c2, c3 = (position + 1) & _MASK, (position + 1) >> 64, 0, 0
    for _ in range(_ROUNDS):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> 64) ^ c1 ^ key_0,
            product_1 & _MASK,
            (product_0 >> 64) ^ c3 ^ key_1,
            product_0 & _MASK,
        )
        key_0 = (key_0 + _WEYL_0) & _MASK
        key_1 = (key_1 + _WEYL_1) & _MASK
    return float((c0 >> 11) * 2.0**-53)
