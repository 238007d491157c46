"""Text <-> token ids, and the bytes that each token stands for.

The only place that knows the `tokenizers` library. Handles GPT-2's byte-level byte-pair encoding,
in which every token is a string of bytes written in an alphabet of 256 visible characters
(A. Radford et al., "Language models are unsupervised multitask learners", 2019, section 2.2).
Nothing changes after loading, so any thread may ask.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

# Name, among the codecs' error handlers, of `_mark_invalid`.
_MARK_INVALID = "nextok.mark_invalid"
# Lone surrogates stand for invalid bytes while they are measured: U+DC00 and their number.
_SURROGATES = 0xD800, 0xDFFF
_MARK = 0xDC00


@dataclass(frozen=True, slots=True)
class TextToken:
    """A token of a text, with the place that it takes in it.

    Attributes:
        id: in the vocabulary.
        token: its text; bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: its own bytes.
        byte_start: first byte in the text's UTF-8 form.
        byte_end: one past the last byte.
        char_start: first code point that it has a byte of.
        char_end: one past the last code point that it has a byte of.
    """

    id: int
    token: str
    bytes: bytes
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int


class Tokenizer:
    """The artifact's tokenizer."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Wraps a loaded byte-level tokenizer.

        Raises:
            ValueError: it is not byte-level.
        """
        byte_level = isinstance(backend.decoder, tokenizers.decoders.ByteLevel)
        if not byte_level:
            raise ValueError("the tokenizer is not byte-level")
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._bytes = _bytes_of_tokens(backend)

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Loads a tokenizer.json.

        Raises:
            ValueError: the file cannot be read, or is not a byte-level tokenizer.
        """
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"{path}: cannot load the tokenizer: {error}") from error
        return cls(backend)

    @property
    def vocabulary_size(self) -> int:
        """One past the highest id that the tokenizer knows."""
        return len(self._bytes)

    @property
    def special_token_ids(self) -> list[int]:
        """Tokens that stand for no text, such as the end of one; in ascending order."""
        added = self._backend.get_added_tokens_decoder()
        return sorted(token_id for token_id, token in added.items() if token.special)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Nothing is added; special tokens written in it are recognised."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> tuple[str, bytes]:
        """Text and bytes of tokens; what is not UTF-8 shows as U+FFFD in the text."""
        data = b"".join(map(self.token_bytes, ids))
        return data.decode("utf-8", "replace"), data

    def token_bytes(self, token_id: int) -> bytes:
        """The token's own bytes; none where the model has an id that the tokenizer has not."""
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def token_text(self, token_id: int) -> str:
        """The token's text; bytes that are not UTF-8 by themselves show as U+FFFD."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def locate(self, ids: Sequence[int]) -> list[TextToken]:
        """The tokens of a text, each with its place in bytes and code points.

        The text is that of `decode`. A token without bytes takes no place.
        """
        pieces = [self.token_bytes(token_id) for token_id in ids]
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if len(ends) else ends
        char_ends = _char_ends(b"".join(pieces))
        char_starts = np.searchsorted(char_ends, starts, side="right")
        # The character of a token's last byte, and one past it.
        last = np.searchsorted(char_ends, ends - 1, side="right") + 1
        last = np.where(ends > starts, last, char_starts)
        places = zip(*(array.tolist() for array in (starts, ends, char_starts, last)), strict=True)
        return [
            TextToken(token_id, piece.decode("utf-8", "replace"), piece, *place)
            for token_id, piece, place in zip(ids, pieces, places, strict=True)
        ]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: which byte each of its 256 characters stands for.

    Visible characters of Latin-1 stand for themselves; the other bytes, in order, are written
    as the characters from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(256)) - set(visible))
    alphabet = {chr(byte): byte for byte in visible}
    alphabet.update((chr(0x100 + place), byte) for place, byte in enumerate(hidden))
    return alphabet


def _bytes_of_tokens(backend: tokenizers.Tokenizer) -> list[bytes]:
    """Bytes of every token, by id."""
    alphabet = _byte_alphabet()
    added = backend.get_added_tokens_decoder()
    vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        try:
            data = bytes([alphabet[character] for character in token])
        except KeyError:
            data = token.encode()
        table[token_id] = data
    for token_id, token in added.items():
        table[token_id] = token.content.encode()
    return table


def _char_ends(data: bytes) -> NDArray[np.int64]:
    """Where each character of the text ends in its bytes, (C,) for C characters.

    The characters are those of `data.decode("utf-8", "replace")`: each U+FFFD takes the bytes
    that it stands for.
    """
    text = data.decode("utf-8", _MARK_INVALID)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    lowest, highest = _SURROGATES
    lengths = np.where((points >= lowest) & (points <= highest), points - _MARK, lengths)
    return np.cumsum(lengths)


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    """Error handler: a surrogate that tells how many bytes `replace` would replace."""
    assert isinstance(error, UnicodeDecodeError)
    return chr(_MARK + error.end - error.start), error.end


codecs.register_error(_MARK_INVALID, _mark_invalid)
