"""What the beginnings of texts are known by, wherever their state is kept.

The key of a chunk has a SHA-256 over that of the one before it and its own tokens, so that one key
stands for everything up to the chunk's end. Knows: tokens, digests. Does not know: slots, memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Many
from hashlib import sha256
from typing import NamedTuple


class Key(NamedTuple):
    """Stands for a text up to the end of one of its chunks.

    Attributes:
        end: Tokens up to there.
        digest: SHA-256 over all of them.
    """

    end: int
    digest: bytes


def chunk_keys(
    tokens: Many[int], chunk: int, *, fork: int | None = None, family: bytes = b""
) -> tuple[Key, ...]:
    """The keys of a prompt's whole chunks, in order, and of the last one before a fork.

    Args:
        tokens: The prompt.
        chunk: Tokens of a whole chunk.
        fork: Where the prompt is cut too. What stands behind has no keys.
        family: Keys of another family are other ones.
    """
    stop = len(tokens) if fork is None else fork
    ends = list(range(chunk, stop + 1, chunk))
    # A single token is not computed as prefill.
    if fork is not None and fork % chunk > 1:
        ends.append(fork)
    keys: list[Key] = []
    start, digest = 0, family
    for end in ends:
        digest = sha256(digest + array("I", tokens[start:end]).tobytes()).digest()
        keys.append(Key(end, digest))
        start = end
    return tuple(keys)


def token_key(before: Key | None, token: int, *, family: bytes = b"") -> Key:
    """The key of a text with one more token, which is computed by itself.

    Args:
        before: Key of the text without it; None where it is the first.
        token: The token.
        family: Keys of another family are other ones.
    """
    end, digest = before or (0, family)
    return Key(end + 1, sha256(digest + array("I", [token]).tobytes()).digest())
